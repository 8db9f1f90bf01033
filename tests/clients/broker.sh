# Sourced by `run`, `run-hostile` and `start-rabbitmq`: what they need to start a broker of their own.

# Prints a port of 127.0.0.1 on which nobody listens. It is below the range the kernel gives to outgoing
# connections, so none of those can take it before the broker does.
free_port() {
    local port
    while :; do
        port=$((20000 + (RANDOM << 15 | RANDOM) % 12000))
        is_open "$port" || break
    done
    echo "$port"
}

# Whether somebody accepts connections on port $1 of 127.0.0.1.
is_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Waits until port $1 accepts connections. Fails when process $2 has ended or after $3 seconds.
wait_for_port() {
    local port=$1 pid=$2 deadline=$((SECONDS + $3))
    until is_open "$port"; do
        kill -0 "$pid" 2>/dev/null || return 1
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# Asks process $1 to end, waits up to $2 seconds, then kills it.
stop_process() {
    local pid=$1 deadline=$((SECONDS + $2))
    kill -TERM "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || { kill -KILL "$pid" 2>/dev/null; return 0; }
        sleep 0.1
    done
}

# Starts LaneMQ with its data and log in folder $1, on the cores $2. Sets `broker_pid`, the process to stop;
# `server_pid`, the process that serves, here the same; and `broker_port`.
start_lanemq() {
    local root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    [ -x "$root/target/release/lanemq" ] || cargo build --release --manifest-path "$root/Cargo.toml"
    broker_port=$(free_port)
    "$root/target/release/lanemq" serve --listen "127.0.0.1:$broker_port" --data-dir "$1/data" --cores "$2" \
        >"$1/broker.log" 2>&1 &
    broker_pid=$!
    server_pid=$broker_pid
    wait_for_port "$broker_port" "$broker_pid" 30 && return
    echo "lanemq did not listen on port $broker_port within 30 s" >&2
    return 1
}

# The same for RabbitMQ.
start_rabbitmq() {
    mkfifo "$1/started"
    "$(dirname "${BASH_SOURCE[0]}")/start-rabbitmq" --cores "$2" >"$1/started" 2>"$1/broker.log" &
    broker_pid=$!
    { read -r broker_port && read -r server_pid; } <"$1/started" && return
    echo "RabbitMQ did not start" >&2
    return 1
}
