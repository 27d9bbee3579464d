"""The commands of `pv`, a module each: `arguments` enters its flags, `run` makes an exit code of their values."""
