#!/usr/bin/env bash
# deb.sh DIRECTORY: builds the Debian package from the tree, without network, and prints its path. Runs as anybody.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(dirname "$here")
python=$tree/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$1" "$root"

(cd "$tree" && "$python" -m hatchling build --target wheel --directory "$work/wheel" >&2)
version=$(basename "$work"/wheel/*.whl | cut -d- -f2)
"$python" -m zipfile --extract "$work"/wheel/*.whl "$work/lib"
mkdir -p "$root/usr/lib/python3/dist-packages"
cp -r "$work"/lib/* "$root/usr/lib/python3/dist-packages/"

cp -r "$here/root/." "$root/"
documents=$root/usr/share/doc/tcmu-runner
mkdir -p "$documents"
cp -r "$tree/README.md" "$tree/CHANGELOG.md" "$tree/CONTRIBUTING.md" "$tree/SECURITY.md" "$tree/docs" "$documents/"
cp "$tree/LICENSE" "$documents/copyright"
for page in "$tree"/docs/man/*.8; do
    [ -e "$page" ] || continue
    mkdir -p "$root/usr/share/man/man8"
    gzip -9n <"$page" >"$root/usr/share/man/man8/$(basename "$page").gz"
done
for shell in bash:bash-completion/completions/tcmu-runner zsh:zsh/vendor-completions/_tcmu-runner; do
    mkdir -p "$(dirname "$root/usr/share/${shell#*:}")"
    "$python" -m tcmu_runner.cli.main completion "${shell%%:*}" >"$root/usr/share/${shell#*:}"
done

mkdir "$root/DEBIAN"
cp "$here/DEBIAN/conffiles" "$root/DEBIAN/"
sed "s/@VERSION@/$version/" "$here/DEBIAN/control" >"$root/DEBIAN/control"
for script in preinst postinst prerm postrm; do
    sed -e "/@OLD_CONFFILES@/{r $here/DEBIAN/maintscript.sh" -e "d}" "$here/DEBIAN/$script" >"$root/DEBIAN/$script"
    chmod 755 "$root/DEBIAN/$script"
done
find "$root" -name __pycache__ -prune -exec rm -r {} +
chmod -R u=rwX,go=rX "$root"
package=$(cd "$1" && pwd)/tcmu-runner_${version}_all.deb
dpkg-deb --build --root-owner-group "$root" "$package" >&2
echo "$package"
