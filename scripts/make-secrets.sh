#!/bin/sh
# Makes the secrets that docker-compose.yml reads, in the folder `secrets` or the one named. One that is
# there is kept.
set -eu
folder=${1:-$(dirname "$0")/../secrets}

# The folder keeps others out; a container's user, who has another number, must read the files.
mkdir -p "$folder"
chmod 700 "$folder"

random() { # BYTES: as text of A-Z, a-z, 0-9, - and _
    head -c "$1" /dev/urandom | base64 | tr -d '=\n' | tr '+/' '-_'
}

keep_or_make() { # NAME TEXT
    [ -s "$folder/$1" ] || { rm -f "$folder/$1" && printf '%s\n' "$2" >"$folder/$1"; }
    chmod 444 "$folder/$1"
}

id=$(head -c 4 /dev/urandom | od -An -tx1 | tr -d ' \n')
keep_or_make postgres_password "$(random 24)"
keep_or_make teacher_key "$(random 32)"
keep_or_make api_admin_key "evk_${id}_$(random 32)"
