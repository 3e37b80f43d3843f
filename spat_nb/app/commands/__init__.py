"One module for each command: `add` gives its flags, `run` does its work"
