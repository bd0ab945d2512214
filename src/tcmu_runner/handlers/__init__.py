"""The handlers that come with tcmu-runner, one file each."""
