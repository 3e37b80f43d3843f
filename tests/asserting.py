"""fastcore's asserts under names that pytest does not take for tests"""

from fastcore.test import test_close as assert_close
from fastcore.test import test_eq as assert_eq
from fastcore.test import test_fail as assert_fails

__all__ = ["assert_close", "assert_eq", "assert_fails"]
