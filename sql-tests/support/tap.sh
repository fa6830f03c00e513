# shellcheck shell=bash
# TAP for tests in bash: the exit status of a command is the result.

count=0
failed=0

# ok NAME COMMAND…: one line of TAP, the command's output as its diagnostics where it fails.
ok() {
    local name=$1 output
    shift
    count=$((count + 1))
    if output=$("$@" 2>&1); then
        echo "ok $count - $name"
    else
        failed=$((failed + 1))
        echo "not ok $count - $name"
        head -n 200 <<<"$output" | sed 's/^/# /' >&2
    fi
}

# skip NAME REASON: what could not be tested.
skip() {
    count=$((count + 1))
    echo "ok $count - $1 # SKIP $2"
}

not() { ! "$@"; }

# is GOT EXPECTED: equal, or both are shown.
is() {
    [ "$1" = "$2" ] || { printf 'got:      %s\nexpected: %s\n' "$1" "$2"; return 1; }
}

# like GOT REGEX
like() {
    [[ $1 =~ $2 ]] || { printf 'got:          %s\ndoes not fit: %s\n' "$1" "$2"; return 1; }
}

# The plan comes last; fails where a test has.
finish_tap() {
    echo "1..$count"
    [ "$failed" = 0 ]
}
