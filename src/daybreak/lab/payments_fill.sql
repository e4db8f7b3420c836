-- Fills the schema with a history, scaled by the setting payments.scale (1: about 180,000 rows and
-- 100 MB). Documents are slices of one random block: they don't compress, and cost next to nothing.
CREATE FUNCTION pg_temp.scaled(rows integer) RETURNS integer LANGUAGE sql AS
    $$ SELECT greatest(10, rows * current_setting('payments.scale')::numeric)::integer $$;

INSERT INTO payments.accounts (holder, currency, accepted, tags)
SELECT 'Holder ' || i, (enum_range(NULL::payments.currency))[1 + i % 3],
       (enum_range(NULL::payments.currency))[1:1 + i % 3], ARRAY['tag' || i % 7, 'tag' || i % 11]
FROM generate_series(1, pg_temp.scaled(10000)) i;

INSERT INTO payments.limits (account_id, kind, limit_cents)
SELECT i, kind, 1000 + i + 0.25
FROM generate_series(1, pg_temp.scaled(10000)) i, unnest(ARRAY['day', 'month']) kind;

INSERT INTO payments.transfers (key, client, from_account, to_account, amount_cents, status, document_bytes)
SELECT md5('history' || i)::uuid, 'history', 1 + i % n, 1 + (i + 1 + i % (n - 1)) % n, 1 + i % 500, 'settled',
       CASE WHEN i % 6 = 0 THEN 4000 + i % 6000 ELSE 0 END
FROM generate_series(1, pg_temp.scaled(40000)) i, pg_temp.scaled(10000) n;

INSERT INTO payments.ledger (bucket, account_id, transfer_id, amount_cents)
SELECT account % 4, account, id, amount
FROM payments.transfers, LATERAL (VALUES (from_account, -amount_cents), (to_account, amount_cents)) e (account, amount);

UPDATE payments.accounts a SET balance_cents = l.total
FROM (SELECT account_id, sum(amount_cents) AS total FROM payments.ledger GROUP BY account_id) l
WHERE l.account_id = a.id;

INSERT INTO payments.events (account_id, note)
SELECT 1 + i % pg_temp.scaled(10000), 'Opened ' || i FROM generate_series(1, pg_temp.scaled(10000)) i;

DO $$
DECLARE
    block bytea := (SELECT string_agg(decode(md5(random()::text), 'hex'), '') FROM generate_series(1, 16384));
BEGIN
    INSERT INTO payments.documents (transfer_id, body, scan)
    SELECT id, jsonb_build_object('number', id, 'lines', encode(substring(block FROM (random() * 200000)::int FOR 1500), 'hex')),
           substring(block FROM (random() * 200000)::int + 1 FOR document_bytes)
    FROM payments.transfers WHERE document_bytes > 0;
END $$;

ANALYZE;
