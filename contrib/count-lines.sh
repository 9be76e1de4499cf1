#!/usr/bin/env bash
# Counts the lines of production Rust in src/: of each file, everything before its first module under
# `#[cfg(test)]`. Comments and blank lines count. Files named tests.rs do not.
#
# Usage: contrib/count-lines.sh [DIRECTORY]    (default: this repository)
set -euo pipefail
cd -- "${1:-$(dirname -- "${BASH_SOURCE[0]}")/..}"

mapfile -d '' files < <(find src -name '*.rs' ! -name tests.rs -print0 | sort -z)
((${#files[@]} > 0)) || {
    printf 'contrib/count-lines.sh: there are no Rust files in %s/src\n' "$PWD" >&2
    exit 1
}

awk '
function count(lines) {
    total += lines
    in_room[room] += lines
    in_file[FILENAME] += lines
    if (is_amqp) amqp += lines
}

FNR == 1 {
    is_test = held = fields = 0
    struct = ""
    # Both src/net/mio.rs and src/net.rs belong to net.
    room = FILENAME
    sub(/^src\//, "", room)
    sub(/(\/.*|\.rs)$/, "", room)
    is_amqp = FILENAME ~ /(^|\/)amqp(\/|\.rs$)/
}

is_test { next }

# Whether this attribute counts depends on the item that follows.
/^#\[cfg\(test\)\]$/ || (held && /^#\[/) { held++; next }
held {
    if (/^(pub(\([a-z]+\))? )?mod [a-z_]+ \{/) { is_test = 1; next }
    if (/^(pub(\([a-z]+\))? )?mod [a-z_]+;/) { held = 0; next }
    count(held)
    held = 0
}

{ count(1) }

# rustfmt puts the closing brace of a struct at the indentation of its first line.
/^ *(pub(\([a-z]+\))? )?struct [A-Za-z0-9_]+/ {
    struct = $0
    sub(/^.*struct /, "", struct)
    sub(/[^A-Za-z0-9_].*$/, "", struct)
    match($0, /^ */)
    indent = substr($0, 1, RLENGTH)
    fields = 0
    # Tuple structs and empty structs have no named fields.
    if (/;$|\}$/) struct = ""
    next
}
struct != "" && $0 == indent "}" {
    if (fields > fields_max) {
        fields_max = fields
        fields_of = struct " in " FILENAME
    }
    struct = ""
}
struct != "" && /^ *(pub(\([a-z]+\))? )?[a-z_][A-Za-z0-9_]*: / { fields++ }

END {
    for (file in in_file)
        if (in_file[file] > longest) {
            longest = in_file[file]
            longest_file = file
        }
    printf "%6d lines of production Rust\n", total
    printf "%6d without AMQP\n\n", total - amqp
    for (name in in_room) printf "%6d %s\n", in_room[name], name | "sort -k1,1nr -k2"
    close("sort -k1,1nr -k2")
    printf "\n%6d lines in the largest file, %s\n", longest, longest_file
    printf "%6d fields in the largest struct, %s\n", fields_max, fields_of
}' "${files[@]}"
