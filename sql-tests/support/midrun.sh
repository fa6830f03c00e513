# shellcheck shell=bash
# Something fails in the middle of a run: the built program refreshes seven replicas, four at a time,
# and four of them are in the middle of their copy. The run must end by itself, say what happened,
# and leave nothing that the next run does not mend. Sourced by servers/restarts and its like. Takes
# the runner from RONEO or from what has been built; without one all is skipped.

# shellcheck source=sql-tests/support/servers.sh
. sql-tests/support/servers.sh
# shellcheck source=sql-tests/support/tap.sh
. sql-tests/support/tap.sh

# In the order of their refresh.
copies=(followed captured slow1 slow2 slow3 slow4 last)

conninfo() { printf 'host=%s port=%s dbname=%s user=postgres connect_timeout=2' "$1" "$2" "$3"; }
s() { on source shop "$@"; }
d() { on dest warehouse "$@"; }

start_servers() {
    local n
    runner=$(find_runner)
    if [ -z "$runner" ]; then
        skip 'servers and networks that fail' 'no runner is built'
        finish_tap
        exit
    fi
    begin_servers
    trap 'thaw $?; end_servers' EXIT
    use_programs "$(find_pg_config)" here
    new_server source 5521
    new_server dest 5522
    start_proxy source
    start_proxy dest
    on source postgres -c 'CREATE DATABASE shop'
    # The slow ones take as long over a row as the table pace says.
    s -c 'CREATE TABLE pace (seconds float8)' -c 'INSERT INTO pace VALUES (0)'
    s -c "$(of_each "CREATE TABLE @ (id int PRIMARY KEY, at timestamptz DEFAULT now(), note text);
        INSERT INTO @ SELECT n, now(), 'first' FROM generate_series(1, 300) AS n;")"
    on dest postgres -c 'CREATE DATABASE warehouse'
    d -c 'CREATE EXTENSION dblink' -c 'CREATE EXTENSION roneo' \
        -c "INSERT INTO roneo.setting VALUES ('connect_timeout_s', '2'), ('exact_check_s', '0')" \
        -c "SELECT roneo.create_source('shop', '$(conninfo 127.0.0.1 "$(<"$work/source.proxy")" shop)')" \
        -c "SELECT roneo.create_updater('shop', 'public.followed', control => 'at')" \
        -c "SELECT roneo.create_dml('shop', 'public.captured')" >/dev/null
    for n in 1 2 3; do
        d -c "SELECT roneo.create_plain('shop', 'public.slow$n',
                  filter => 'pg_sleep((SELECT seconds FROM public.pace)) IS NOT NULL')" >/dev/null
    done
    d -c "SELECT roneo.create_snapshot('shop', 'public.slow4',
              filter => 'pg_sleep((SELECT seconds FROM public.pace)) IS NOT NULL')" \
        -c "SELECT roneo.create_plain('shop', 'public.last')" >/dev/null
}

# start_proxy NAME: TCP to that server; its port is in NAME.proxy.
start_proxy() {
    sql-tests/support/proxy.pl "$PGHOST/.s.PGSQL.$(port_of "$1")" "$work/$1.proxy" &
    printf '%s\n' $! >"$work/$1.proxy.pid"
    wait_for 10 test -e "$work/$1.proxy"
}

# proxies SIGNAL NAME…
proxies() {
    local signal=$1 name
    shift
    for name in "$@"; do kill -s "$signal" "$(<"$work/$name.proxy.pid")"; done
}

# signal_server SIGNAL NAME: its postmaster and all of its backends.
signal_server() {
    local postmaster
    read -r postmaster <"$work/$2/data/postmaster.pid"
    # First the one that starts others.
    kill -s "$1" "$postmaster"
    pkill "-$1" -P "$postmaster" || true
}

# thaw STATUS: of the test, which is kept.
thaw() {
    local name
    for name in source dest; do
        [ ! -e "$work/$name/data/postmaster.pid" ] || signal_server CONT $name || true
        [ ! -e "$work/$name.proxy.pid" ] || kill "$(<"$work/$name.proxy.pid")" || true
    done
    return "$1"
}

# of_each SQL: for each table, in place of @.
of_each() {
    local n
    for n in "${copies[@]}"; do printf '%s\n' "${1//@/$n}"; done
}

# A change in every table, and all of them due, in their order.
change() {
    s -c 'UPDATE pace SET seconds = 0.2' -c "$(of_each "UPDATE @ SET note = '$1', at = clock_timestamp() WHERE id % 3 = 0;
        INSERT INTO @ SELECT max(id) + 1, clock_timestamp(), '$1' FROM @;")"
    make_due
}
make_due() {
    d -c "UPDATE roneo.replica SET created_at = '2026-01-01', refresh_every = '1 second', failures = 0,
              last_attempt_at = NULL, last_success_at = now() - interval '1 hour'"
}

run_roneo() {
    local status=0
    timeout 30 "$runner" run --jobs 4 --stall-timeout 1s \
        -d "$(conninfo 127.0.0.1 "$(<"$work/dest.proxy")" warehouse)" >"$work/said" 2>&1 || status=$?
    printf '%s\n' $status >"$work/status"
}

are_copying() {
    is "$(s -c "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE 'COPY %'")" 4
}
all_done() {
    is "$(d -c "SELECT count(*) FROM roneo.run WHERE outcome = 'running'")" "${1:-0}"
}
are_gone() {
    local left
    left=$(s -c "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'roneo %'")+$(
        d -c "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'roneo %'")
    is "$left" 0+0
}
content() {
    "$1" -c "$(of_each "SELECT '@', md5(string_agg(concat_ws(' ', id, at, note), ', ' ORDER BY id)) FROM @;")"
}
are_equal() { is "$(content d)" "$(content s)"; }
# The last outcome of each replica, those of the four in one.
outcomes() {
    d -c "SELECT string_agg(w, ' ') FROM (
              SELECT concat_ws(' ', CASE WHEN dest LIKE '%slow%' THEN 'slow' ELSE split_part(dest, '.', 2) END, outcome) AS w
              FROM (SELECT DISTINCT ON (replica_id) * FROM roneo.run ORDER BY replica_id, run_id DESC) AS u
              WHERE run_id > $former GROUP BY 1 ORDER BY min(replica_id)) AS o"
}

# fails NAME STATUS SAID OUTCOMES BREAK MEND: breaks something in the middle of a run, and mends it
# after the run has ended.
fails() {
    local name=$1 status=$2 said=$3 outcomes=$4 break=$5 mend=$6
    change "$name"
    former=$(d -c 'SELECT max(run_id) FROM roneo.run')
    run_roneo &
    ok "$name: four are in the middle of their copy" wait_for 10 are_copying
    $break
    wait $!
    ok '… the run ends, with its status' like "$(<"$work/status")" "^($status)\$"
    ok '… it says what happened' like "$(<"$work/said")" "$said"
    $mend
    ok '… each replica has its outcome' like "$(outcomes)" "$outcomes"
    s -c 'UPDATE pace SET seconds = 0'
    make_due
    run_roneo
    ok '… the next run has nothing to say' is "$(<"$work/status") $(<"$work/said")" '0 '
    ok '… no run is left running' all_done
    ok '… nothing of it is left on either side' wait_for 10 are_gone
    ok '… and the copies are equal' are_equal
}

# What the tests expect of the slow ones.
# shellcheck disable=SC2034
failed_slow='^followed ok captured ok slow failed last'
# shellcheck disable=SC2034
lost_slow='^followed ok captured ok slow (failed|running)'
