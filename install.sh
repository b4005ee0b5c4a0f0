#!/bin/sh
# Installs pgate. In a checkout it builds what is checked out; from anywhere else
# (`curl … | sh`) it fetches a release, and installs nothing whose signature it
# can't verify. `./install.sh --help` lists the options.
#
# POSIX sh; everything is in functions and the last line calls main, so a
# download that is cut short runs nothing.
set -eu

# The release workflow fills these two lines in for the copy of this script that
# it publishes. While they are empty, nothing is fetched.
release_repository=''
release_key=''

signer='pgate-release' # who signs, and the signature's namespace

usage() {
  cat <<'END'
Installs pgate.

Usage: ./install.sh [OPTIONS]

Options:
  --demo             run `pgate demo` afterwards: the whole product on a throwaway PostgreSQL
  --no-deps          install no system packages; fail and say what is missing
  --only-deps        in a checkout: install the system packages that a build needs, and stop
  --prefix DIR       install below DIR [default: ~/.local, as root /usr/local]
  --profile PROFILE  how to build a checkout: release or dev [default: release]
  --version VERSION  which release to fetch, outside a checkout [default: the latest]
  --help             print this

In a checkout it needs a Rust toolchain, a C compiler and libclang, builds pgate
and installs it with shell completions and man pages. Outside of one it fetches
the release archive for this system, checks its signature and its SHA-256, and
refuses what it can't verify.

Examples:
  ./install.sh --demo
  ./install.sh --prefix "$HOME/.local" --no-deps
END
}

main() {
  demo=no deps=yes build=yes prefix='' profile='' version=''
  while [ $# -gt 0 ]; do
    case $1 in
      --demo) demo=yes ;;
      --no-deps) deps=no ;;
      --only-deps) build=no ;;
      --prefix=* | --profile=* | --version=*)
        option=${1%%=*} value=${1#*=}
        shift
        set -- "$option" "$value" "$@"
        continue
        ;;
      --prefix | --profile | --version)
        [ $# -ge 2 ] || fail_usage "$1 needs a value"
        [ -n "$2" ] || fail_usage "$1 needs a value"
        case $1 in
          --prefix) prefix=$2 ;;
          --profile) profile=$2 ;;
          --version) version=${2#v} ;;
        esac
        shift
        ;;
      -h | --help)
        usage
        exit 0
        ;;
      *) fail_usage "unknown option $1" ;;
    esac
    shift
  done
  case $profile in
    '' | release | dev) ;;
    *) fail_usage "--profile is release or dev, not $profile" ;;
  esac

  if [ -z "$prefix" ]; then
    if [ "$(id -u)" -eq 0 ]; then
      prefix=/usr/local
    else
      prefix=${HOME:?is not set; say where to install with --prefix}/.local
    fi
  fi
  case $prefix in
    /*) ;;
    *) prefix=$(pwd)/$prefix ;;
  esac

  if checkout=$(checkout_folder); then
    [ -z "$version" ] || fail_usage "--version is for releases; a checkout builds what is checked out"
    install_checkout
  else
    [ -z "$profile" ] || fail_usage "--profile is for checkouts; releases are built already"
    [ "$build" = yes ] || fail_usage "--only-deps is for checkouts; releases need nothing else"
    install_release
  fi
  say_path
  if [ "$demo" = yes ]; then
    say 'Running pgate demo'
    "$prefix/bin/pgate" demo
  fi
}

# --- from a checkout ---------------------------------------------------------

# The folder of this script, where it lies in a checkout of pgate.
checkout_folder() {
  case $0 in
    *install.sh) ;;
    *) return 1 ;;
  esac
  folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || return 1
  grep -q '^name = "pgate"$' "$folder/Cargo.toml" 2>/dev/null || return 1
  printf '%s\n' "$folder"
}

install_checkout() {
  cd "$checkout"
  check_rust
  install_dependencies
  [ "$build" = yes ] || exit 0
  point_to_libclang
  static_c_library_workaround

  say "Building pgate ($(build_words)); the first time takes some minutes"
  case $profile in
    # With the tests, whose dependencies switch on further features: so that what is
    # built here is what `cargo test` uses too.
    dev) cargo build --locked --bin pgate --test it ;;
    *) cargo build --locked --bin pgate --release ;;
  esac
  built=$(target_folder)/$(profile_folder)/pgate
  [ -x "$built" ] || fail "cargo built no $built" 'Is build.target set in a cargo configuration? Unset it for this build.'
  install_files "$built" "$checkout/completions" "$checkout/man"
}

build_words() { [ "$profile" = dev ] && echo 'development build' || echo 'release build'; }
profile_folder() { [ "$profile" = dev ] && echo debug || echo release; }

target_folder() {
  cargo metadata --format-version 1 --no-deps --locked |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}

# Rust comes from rustup or the system; a script doesn't choose for you.
check_rust() {
  if ! has cargo && [ -x "${HOME:-}/.cargo/bin/cargo" ]; then
    PATH=$HOME/.cargo/bin:$PATH # a shell from before rustup
  fi
  needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
  if ! has cargo || ! has rustc; then
    fail "pgate is built with Rust $needed or newer, and there is no cargo on PATH" \
      'Install Rust from https://rustup.rs, open a new shell, and run this again.'
  fi
  found=$(rustc --version | sed 's/^rustc \([0-9][0-9.]*\).*/\1/')
  at_least "$found" "$needed" ||
    fail "pgate is built with Rust $needed or newer; rustc here is $found" \
      'Run "rustup update stable", or install Rust from https://rustup.rs, and run this again.'
}

# Whether version $1 is $2 or newer, by major and minor number.
at_least() {
  found_major=${1%%.*} rest=${1#*.} found_minor=${rest%%.*}
  needed_major=${2%%.*} rest=${2#*.} needed_minor=${rest%%.*}
  [ "$found_major" -gt "$needed_major" ] ||
    { [ "$found_major" -eq "$needed_major" ] && [ "$found_minor" -ge "$needed_minor" ]; }
}

install_dependencies() {
  manager=$(package_manager)
  missing='' packages=''
  postgresql_words="PostgreSQL's server programs and psql (for the demo)"
  has cc || need 'a C compiler' "$(package_of compiler)"
  libclang_folder >/dev/null || need 'libclang (for the PostgreSQL parser)' "$(package_of libclang)"
  if [ "$demo" = yes ]; then
    has_postgresql || need "$postgresql_words" "$(package_of postgresql)"
  fi
  [ -n "$missing" ] || return 0

  say "Missing: $missing"
  if [ "$deps" = no ]; then
    # The demo has a way of its own to get PostgreSQL; nothing else can be done without.
    [ "$missing" != "$postgresql_words" ] || return 0
    fail 'with --no-deps nothing is installed' "${packages:+Install:$packages}"
  fi
  if [ -z "$manager" ]; then
    fail 'no package manager that this script knows (apt-get, dnf, yum, apk, pacman, zypper, brew)' \
      'Install what is missing, and run this again.'
  fi
  case $packages in
    *xcode-select*)
      fail "Apple's command line tools are missing" 'Run "xcode-select --install", and run this again.'
      ;;
  esac
  # shellcheck disable=SC2086 # package names, to be split
  install_packages $packages
  has cc || fail 'there is still no C compiler (cc) on PATH' 'Install one, and run this again.'
  libclang_folder >/dev/null ||
    fail 'libclang is still not found' 'Set LIBCLANG_PATH to the folder that holds it, and run this again.'
}

need() {
  missing="${missing:+$missing, }$1"
  packages="$packages $2"
}

package_manager() {
  for name in apt-get dnf yum apk pacman zypper brew; do
    if has "$name"; then
      printf '%s\n' "$name"
      return
    fi
  done
}

package_of() {
  case $manager:$1 in
    apt-get:compiler) echo gcc libc6-dev ;;
    apk:compiler) echo gcc musl-dev ;;
    brew:compiler) echo xcode-select ;;
    *:compiler) echo gcc ;;
    apt-get:libclang) echo libclang-dev ;;
    dnf:libclang | yum:libclang | zypper:libclang) echo clang-devel ;;
    apk:libclang) echo clang-dev ;;
    brew:libclang) echo llvm ;;
    *:libclang) echo clang ;;
    dnf:postgresql | yum:postgresql | zypper:postgresql) echo postgresql-server postgresql ;;
    apk:postgresql) echo postgresql postgresql-client ;;
    brew:postgresql) echo postgresql@17 ;;
    *:postgresql) echo postgresql ;;
  esac
}

install_packages() {
  case $manager in
    apt-get)
      run_as_root apt-get update
      run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
      ;;
    dnf | yum) run_as_root "$manager" install -y "$@" ;;
    apk) run_as_root apk add "$@" ;;
    pacman) run_as_root pacman -S --needed --noconfirm "$@" ;;
    zypper) run_as_root zypper --non-interactive install "$@" ;;
    brew)
      say "Running: brew install $*"
      brew install "$@" </dev/null
      ;;
  esac
}

run_as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    say "Running: $*"
    "$@" </dev/null
  elif has sudo; then
    say "Running: sudo $*"
    sudo "$@" </dev/null
  else
    fail "installing packages needs root, and there is no sudo: $*" 'Run that as root, and run this again.'
  fi
}

# The folder that holds libclang, looked for where the build's own search looks,
# and where Homebrew and llvm-config have it.
libclang_folder() {
  llvm=$(llvm-config --libdir 2>/dev/null || :)
  brewed=$(brew --prefix llvm 2>/dev/null || :)
  for folder in "${LIBCLANG_PATH:-}" "$llvm" "${brewed:+$brewed/lib}" \
    /usr/lib /usr/lib64 /usr/lib/*-linux-gnu* /usr/lib/llvm*/lib /usr/lib64/llvm*/lib* \
    /usr/local/lib /usr/local/llvm*/lib /usr/local/opt/llvm*/lib \
    /Library/Developer/CommandLineTools/usr/lib \
    /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib; do
    [ -n "$folder" ] || continue
    for library in "$folder"/libclang.so* "$folder"/libclang-[0-9]*.so* "$folder"/libclang.dylib; do
      if [ -f "$library" ]; then
        printf '%s\n' "$folder"
        return
      fi
    done
  done
  return 1
}

# The build finds libclang by itself in the usual places. LIBCLANG_PATH is set
# only where it wouldn't, because changing it makes cargo build the parser anew.
point_to_libclang() {
  [ -z "${LIBCLANG_PATH:-}" ] || return 0
  folder=$(libclang_folder) || return 0
  case $folder in
    /usr/lib* | /usr/local/lib* | /usr/local/llvm* | /usr/local/opt/llvm* | /Library/* | /Applications/*) ;;
    *)
      LIBCLANG_PATH=$folder
      export LIBCLANG_PATH
      ;;
  esac
}

# On musl, rustup's toolchain links statically, and a static build script can't
# load libclang.
static_c_library_workaround() {
  if is_musl && [ -z "${RUSTFLAGS:-}" ]; then
    RUSTFLAGS='-C target-feature=-crt-static'
    export RUSTFLAGS
  fi
}

is_musl() {
  case $(ldd --version 2>&1 || :) in
    *musl*) return 0 ;;
    *) return 1 ;;
  esac
}

# The server's programs and psql, looked for where `pgate demo` looks.
has_postgresql() {
  if [ -n "${PGATE_PG_BIN:-}" ]; then
    [ -x "$PGATE_PG_BIN/initdb" ]
    return
  fi
  for initdb in "$(command -v initdb || :)" /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb \
    /usr/libexec/postgresql*/initdb /usr/local/pgsql/bin/initdb \
    /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb \
    /home/linuxbrew/.linuxbrew/opt/postgresql*/bin/initdb \
    /Applications/Postgres.app/Contents/Versions/*/bin/initdb; do
    if [ -x "$initdb" ] && { has psql || [ -x "${initdb%/*}/psql" ]; }; then
      return 0
    fi
  done
  return 1
}

# --- from a release ----------------------------------------------------------

install_release() {
  if [ -z "$release_repository" ] || [ -z "$release_key" ]; then
    fail 'this copy of install.sh names no release and no signing key, so nothing that it could fetch can be verified' \
      'Use the install.sh that is published with a release, or clone the repository and run ./install.sh there.'
  fi
  triple=$(release_triple)
  for tool in ssh-keygen tar; do
    has "$tool" || fail "$tool is missing; without it the release can't be verified and unpacked" "Install $tool, and run this again."
  done
  has sha256sum || has shasum ||
    fail 'neither sha256sum nor shasum is here; without one the release can not be verified' 'Install one, and run this again.'

  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM

  base=${PGATE_RELEASES:-https://github.com/$release_repository/releases}
  if [ -n "$version" ]; then
    from=$base/download/v$version
  else
    from=$base/latest/download
  fi

  say "Fetching pgate for $triple from $from"
  fetch "$from/SHA256SUMS" "$work/SHA256SUMS"
  fetch "$from/SHA256SUMS.sig" "$work/SHA256SUMS.sig"
  verify_signature
  archive=$(archive_name)
  fetch "$from/$archive" "$work/$archive"
  verify_checksum "$archive"

  mkdir "$work/unpacked"
  tar -xzf "$work/$archive" -C "$work/unpacked"
  unpacked=$work/unpacked/${archive%.tar.gz}
  [ -f "$unpacked/pgate" ] || fail "$archive holds no pgate" 'Please report this: the release is broken.'
  install_files "$unpacked/pgate" "$unpacked/completions" "$unpacked/man"
}

release_triple() {
  case $(uname -s) in
    Linux)
      ! is_musl || fail 'there are no release archives for musl' 'Clone the repository and run ./install.sh there.'
      system=unknown-linux-gnu
      ;;
    Darwin) system=apple-darwin ;;
    *) fail "there are no release archives for $(uname -s)" 'pgate runs on Linux and macOS.' ;;
  esac
  case $(uname -m) in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) fail "there are no release archives for $(uname -m)" 'Clone the repository and run ./install.sh there.' ;;
  esac
  printf '%s-%s\n' "$machine" "$system"
}

fetch() {
  if has curl; then
    case $1 in
      https:*) curl --proto '=https' --tlsv1.2 -fsSL --retry 3 -o "$2" -- "$1" ;;
      *) curl -fsSL -o "$2" -- "$1" ;;
    esac
  elif has wget; then
    wget -q -O "$2" -- "$1"
  else
    fail 'neither curl nor wget is here' 'Install one, and run this again.'
  fi || fail "$1 could not be fetched" 'Is the version right, and the network there?'
}

verify_signature() {
  printf '%s %s\n' "$signer" "$release_key" >"$work/signers"
  if ! ssh-keygen -Y verify -f "$work/signers" -I "$signer" -n "$signer" \
    -s "$work/SHA256SUMS.sig" <"$work/SHA256SUMS" >"$work/verified" 2>&1; then
    sed 's/^/  /' "$work/verified" >&2
    fail 'the signature of SHA256SUMS does not verify; nothing was installed' \
      'Somebody may have tampered with the release, or ssh-keygen is older than OpenSSH 8.0. Please report it if it persists.'
  fi
}

# The signed list names exactly one archive for this system; its name carries the
# version, so an old release can't be passed off as the one that was asked for.
archive_name() {
  names=$(sed -n "s/^[0-9a-f]\{64\}  \(pgate-[0-9A-Za-z.+-]*-$triple\.tar\.gz\)\$/\1/p" "$work/SHA256SUMS")
  case $names in
    '') fail "the release has no archive for $triple" 'Clone the repository and run ./install.sh there.' ;;
    *'
'*) fail "the release has several archives for $triple" 'Please report this: the release is broken.' ;;
  esac
  if [ -n "$version" ] && [ "$names" != "pgate-$version-$triple.tar.gz" ]; then
    fail "version $version was asked for, and the signed list is about $names; nothing was installed" 'Please report this.'
  fi
  printf '%s\n' "$names"
}

verify_checksum() {
  expected=$(sed -n "s/^\([0-9a-f]\{64\}\)  $1\$/\1/p" "$work/SHA256SUMS")
  if has sha256sum; then
    actual=$(sha256sum "$work/$1")
  else
    actual=$(shasum -a 256 "$work/$1")
  fi
  actual=${actual%% *}
  [ "$actual" = "$expected" ] ||
    fail "the SHA-256 of $1 is $actual, and the signed list says $expected; nothing was installed" \
      'The download was damaged or tampered with. Run this again; report it if it persists.'
}

# --- both --------------------------------------------------------------------

# install_files BINARY COMPLETIONS MAN
install_files() {
  say "Installing below $prefix"
  place "$1" "$prefix/bin/pgate" 755
  place "$2/pgate.bash" "$prefix/share/bash-completion/completions/pgate" 644
  place "$2/_pgate" "$prefix/share/zsh/site-functions/_pgate" 644
  place "$2/pgate.fish" "$prefix/share/fish/vendor_completions.d/pgate.fish" 644
  for page in "$3"/*.1; do
    place "$page" "$prefix/share/man/man1/${page##*/}" 644
  done
}

# Copies under another name first: a running pgate keeps its file, and no half
# written file is ever in place.
place() {
  [ -f "$1" ] || fail "$1 is missing" 'The checkout or the archive is not whole.'
  folder=${2%/*}
  mkdir -p "$folder" 2>/dev/null || fail "$folder can't be made" 'Choose another place with --prefix, or run this as root.'
  new=$folder/.${2##*/}.$$
  if ! { cp "$1" "$new" && chmod "$3" "$new" && mv -f "$new" "$2"; }; then
    rm -f "$new"
    fail "$2 can't be written" 'Choose another place with --prefix, or run this as root.'
  fi
}

say_path() {
  say "Installed $("$prefix/bin/pgate" --version)"
  case :$PATH: in
    *":$prefix/bin:"*) ;;
    *)
      say "$prefix/bin is not on your PATH. Add it to your shell's start-up file:"
      say "  export PATH=\"$prefix/bin:\$PATH\""
      ;;
  esac
}

has() { command -v "$1" >/dev/null 2>&1; }
say() { printf '%s\n' "$*"; }

# fail WHAT NEXT
fail() {
  printf 'install.sh: %s\n' "$1" >&2
  [ -z "${2:-}" ] || printf '  %s\n' "$2" >&2
  exit 1
}

fail_usage() {
  printf 'install.sh: %s\n  ./install.sh --help lists the options.\n' "$1" >&2
  exit 2
}

main "$@"
