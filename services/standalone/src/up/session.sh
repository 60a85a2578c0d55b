cd {folder}
as() { TOKEN=$1; shift; grpcurl -plaintext -H "authorization: Bearer $TOKEN" "$@"; }
KEY={key}
AT={address}

# What is there.
grpcurl -plaintext $AT list
grpcurl -plaintext $AT describe countersign.v1.SignerService.Sign

# The sender sends a contract: a PDF, one recipient, a signature field and a date field.
as $KEY -d @ $AT countersign.v1.EnvelopeService/CreateEnvelope < create-envelope.json | tee envelope.json
ENVELOPE=$(grep -o 'env_[0-9a-z]*' envelope.json | head -n 1)
RECIPIENT=$(grep -o 'rcp_[0-9a-z]*' envelope.json | head -n 1)

# The link in the recipient's mail; for test keys the sender can have it too.
as $KEY -d "{\"envelope_id\":\"$ENVELOPE\",\"recipient_id\":\"$RECIPIENT\"}" $AT countersign.v1.EnvelopeService/GetSigningLink | tee link.json
LINK=$(grep -o 'cst_[0-9A-Za-z]*' link.json | head -n 1)

# The recipient reads and signs.
as $LINK $AT countersign.v1.SignerService/GetSigningSession | tee session.json
DOCUMENT=$(grep -o 'doc_[0-9a-z]*' session.json | head -n 1)
SHA256=$(grep -o '"sha256": "[0-9a-f]*' session.json | head -n 1 | cut -d '"' -f 4)
as $LINK -d "{\"consent\":true,\"seen_documents\":[{\"document_id\":\"$DOCUMENT\",\"sha256\":\"$SHA256\"}]}" $AT countersign.v1.SignerService/Sign
sleep 2

# COMPLETED: the sender looks, and gets the signed PDF.
as $KEY -d "{\"envelope_id\":\"$ENVELOPE\"}" $AT countersign.v1.EnvelopeService/GetEnvelope
as $KEY -d "{\"envelope_id\":\"$ENVELOPE\"}" $AT countersign.v1.EnvelopeService/ListEvents
as $KEY -d "{\"envelope_id\":\"$ENVELOPE\"}" $AT countersign.v1.EnvelopeService/DownloadDocument | grep -o '"chunk": "[^"]*' | cut -d '"' -f 4 | while read -r CHUNK; do echo "$CHUNK" | base64 -d; done > signed.pdf
ls -l "$PWD/signed.pdf"
