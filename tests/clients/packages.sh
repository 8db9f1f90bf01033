# Sourced by each language's `prepare`: what it needs from the system, from Debian's packages where it is missing.

# Ends `prepare` by telling `run` why this language cannot be had here.
skip() {
    echo "$*"
    exit 77
}

# Makes sure that command $1 exists; the other arguments are the Debian packages that have it.
require_command() {
    local command=$1
    shift
    command -v "$command" >/dev/null || install_packages "$@"
    command -v "$command" >/dev/null || skip "$command is missing, and the Debian packages $* did not bring it"
}

# Installs Debian packages.
install_packages() {
    command -v apt-get >/dev/null || skip "$* is missing, and there is no apt-get to install it"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; } \
        >&2 || skip "apt-get install $* failed"
}

# Whether the file $1 is newer than all the other arguments.
up_to_date() {
    local made=$1 source
    shift
    [ -e "$made" ] || return 1
    for source in "$@"; do
        [ "$made" -nt "$source" ] || return 1
    done
}
