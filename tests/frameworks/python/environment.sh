# Sourced by the `prepare` of each framework in Python.
source "$here/../../clients/packages.sh"

# Makes a virtual environment in the folder $1 with the versions in `requirements.txt` beside `prepare`.
make_environment() {
    require_command python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    up_to_date "$1/ready" "$here/requirements.txt" "$here/prepare" && return
    python3 -m venv "$1/venv"
    "$1/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2
    touch "$1/ready"
}
