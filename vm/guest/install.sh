#!/bin/sh
# install.sh WHEEL [live]: our daemon into /opt/tcmu-runner. "live" puts the package's link to /src/src in place of its
# files, so that the next `sync.sh` is all that a change of the source needs.
set -eu
package=/opt/tcmu-runner/lib/python3.11/site-packages/tcmu_runner
[ ! -L "$package" ] || rm "$package"
/opt/tcmu-runner/bin/python -m pip install --quiet --no-index --no-deps --force-reinstall --root-user-action=ignore \
    --disable-pip-version-check "$1"
if [ "${2-}" = live ]; then
    rm -r "$package"
    ln -s /src/src/tcmu_runner "$package"
fi
