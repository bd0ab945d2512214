"""The commands of a disk, one file per family; a command function takes (unit, command), returns a plan."""
