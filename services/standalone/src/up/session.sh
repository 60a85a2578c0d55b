cd {folder}
KEY={key}
AT={address}
call() { CREDENTIAL=$1; shift; grpcurl -plaintext -H "authorization: Bearer $CREDENTIAL" "$@"; }

echo '== What is there'
grpcurl -plaintext $AT list
grpcurl -plaintext $AT describe countersign.v1.SignerService.Sign

echo '== The sender sends a contract: a PDF, one recipient, a signature and a date'
call $KEY -d @ $AT countersign.v1.EnvelopeService/CreateEnvelope < create-envelope.json | tee envelope.json
ENVELOPE=$(grep -o 'env_[0-9a-z]*' envelope.json | head -n 1)
RECIPIENT=$(grep -o 'rcp_[0-9a-z]*' envelope.json | head -n 1)

echo '== The link of the recipient, which is in the mail too; only test keys may ask for it'
call $KEY -d "{\"envelope_id\":\"$ENVELOPE\",\"recipient_id\":\"$RECIPIENT\"}" $AT countersign.v1.EnvelopeService/GetSigningLink | tee link.json
TOKEN=$(grep -o 'cst_[0-9A-Za-z]*' link.json | head -n 1)

echo '== The recipient reads and signs'
call $TOKEN $AT countersign.v1.SignerService/GetSigningSession | tee session.json
DOCUMENT=$(grep -o 'doc_[0-9a-z]*' session.json | head -n 1)
SHA256=$(grep -o '"sha256": *"[0-9a-f]*' session.json | head -n 1 | cut -d '"' -f 4)
REVISION=$(grep -o '"revision": *"[0-9]*' session.json | head -n 1 | cut -d '"' -f 4)
call $TOKEN -d "{\"consent\":true,\"seen_revision\":$REVISION,\"seen_documents\":[{\"document_id\":\"$DOCUMENT\",\"sha256\":\"$SHA256\"}]}" $AT countersign.v1.SignerService/Sign
sleep 2

echo '== COMPLETED: the sender looks, and gets the signed PDF'
call $KEY -d "{\"envelope_id\":\"$ENVELOPE\"}" $AT countersign.v1.EnvelopeService/GetEnvelope
call $KEY -d "{\"envelope_id\":\"$ENVELOPE\"}" $AT countersign.v1.EnvelopeService/ListEvents
call $KEY -d "{\"envelope_id\":\"$ENVELOPE\"}" $AT countersign.v1.EnvelopeService/DownloadDocument > download.json
grep -o '"chunk": *"[^"]*' download.json | cut -d '"' -f 4 | while read -r CHUNK; do echo "$CHUNK" | base64 -d; done > signed.pdf
ls -l "$PWD/signed.pdf"
