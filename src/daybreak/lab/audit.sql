-- What a database holds of one run of the workload, one row for each key.
SELECT t.key,
       coalesce(l.entries, 0),
       coalesce(l.total, 0)::bigint,
       t.document_bytes = coalesce(d.bytes, 0),
       coalesce(e.events, 0),
       coalesce(e.logged, 0)
FROM payments.transfers t
LEFT JOIN (
    SELECT transfer_id, count(*) AS entries, sum(amount_cents) AS total
    FROM payments.ledger GROUP BY transfer_id
) l ON l.transfer_id = t.id
LEFT JOIN (
    SELECT transfer_id, sum(octet_length(scan)) AS bytes
    FROM payments.documents WHERE body ->> 'number' IS NOT NULL GROUP BY transfer_id
) d ON d.transfer_id = t.id
LEFT JOIN (
    SELECT e.note, count(DISTINCT e.number) AS events, count(g.id) AS logged
    FROM payments.events e LEFT JOIN payments.event_log g ON g.number = e.number AND g.operation = 'INSERT'
    GROUP BY e.note
) e ON e.note = t.key::text
WHERE t.client = %s
