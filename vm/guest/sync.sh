#!/bin/sh
# Brings /src up to the host's checkout, without what the host has built in it.
exec rsync -rlpt --delete --exclude=/.git --exclude=/.venv --exclude=/out --exclude='.*_cache' --exclude=/.hypothesis \
    --exclude=__pycache__ /host/checkout/ /src/
