#!/usr/bin/env bash
# Installs the programs that seal beside ours, and makes a key and papers for all of them. Once: what is there stays.
# usage: setup.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")"
folder=$1
mkdir -p "$folder"

if [ ! -f "$folder/venv/.ready" ]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet pyhanko==0.38.0 reportlab pillow
    touch "$folder/venv/.ready"
fi
if [ ! -d "$folder/node_modules/@libpdf/core" ]; then
    npm install --silent --no-save --prefix "$folder" \
        @libpdf/core@0.4.2 @signpdf/signpdf@3.3.0 @signpdf/signer-p12@3.3.0 @signpdf/placeholder-plain@3.3.0
fi
# Modules are looked for beside the script, and so are the fonts that it embeds.
cp ./*.py ./*.mjs ../../services/paper/fonts/{DejaVuSansCondensed,PTSerif-Bold,MarckScript-Regular}.ttf "$folder/"

cd "$folder"
if [ ! -f p256.p12 ]; then
    rm -f seal.*
    openssl req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 3650 -subj "/CN=Bench Root" -sha256
    printf '%s\n' keyUsage=critical,digitalSignature,nonRepudiation extendedKeyUsage=emailProtection \
        basicConstraints=critical,CA:FALSE subjectKeyIdentifier=hash authorityKeyIdentifier=keyid >extensions
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.key
    for key in rsa p256; do
        openssl req -new -key $key.key -out $key.csr -subj "/CN=Bench Seal"
        openssl x509 -req -in $key.csr -CA root.pem -CAkey root.key -CAcreateserial -days 3650 -extfile extensions -out $key.pem
        # What the JavaScript programs read is encrypted the old way.
        openssl pkcs12 -export -legacy -inkey $key.key -in $key.pem -certfile root.pem -passout pass:secret -out $key-legacy.p12
        openssl pkcs12 -export -inkey $key.key -in $key.pem -certfile root.pem -passout pass:secret -out $key.p12
    done
fi 2>/dev/null
[ -f 10-mb.pdf ] || venv/bin/python inputs.py .
