#!/bin/sh
# Makes the certificates beside it: two authorities, and leaves for the tests of TLS. They protect nothing.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=$1" \
        -keyout "$work/$1.key" -out "$1.pem"
}
leaf() { # name, alternative names, authority
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$work/$1.csr"
    echo "subjectAltName=$2" >"$work/ext"
    openssl x509 -req -in "$work/$1.csr" -CA "$3.pem" -CAkey "$work/$3.key" -CAcreateserial -CAserial "$work/serial" \
        -days 36500 -extfile "$work/ext" -out "$1.pem"
}
authority ca
authority other
leaf server "DNS:localhost,IP:127.0.0.1" ca
leaf elsewhere "DNS:elsewhere.test" ca
leaf second "DNS:localhost,IP:127.0.0.1" other
leaf client "DNS:client" ca
leaf foreign "DNS:client" other
