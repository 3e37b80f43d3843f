import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["IN_TEST"] = "1"  # silences progress bars
for k in [k for k in os.environ if k.startswith("SPAT_NB_") and k != "SPAT_NB_DATA"]:
    del os.environ[k]

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter):
    """What a test wants to be read, also where it ran in another process:
    record_property('printed', text)
    """
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "printed":
                terminalreporter.write_line(text)
