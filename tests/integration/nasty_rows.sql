-- Rows for nasty.sql. Run by the owner of the database.
INSERT INTO app.account (mood, moods, amount, pair, span, document, picture, day, pause, class, ratio, email)
SELECT (ARRAY['sad', 'it''s
weird', 'glad'])[1 + g % 3]::app.mood, ARRAY['glad', NULL, 'it''s
weird']::app.mood[], g, ROW (g, E'tab\t \\ "x"')::app.pair, app.span(g, g + 5),
    jsonb_build_object('text', repeat(md5(g::text), 200)), decode(repeat(md5(g::text), 300), 'hex'),
    date '2024-02-29' + g, make_interval(months => g, secs => 0.000001), 'pg_class', g / 7.0, E'\\N \\. ' || g
FROM generate_series(1, 300) g;
INSERT INTO app.binary_safe
SELECT g, 'it''s
weird', g, ARRAY[date '4713-01-01 BC', 'infinity'], int4range(g, NULL), jsonb_build_object('n', g),
    decode(repeat(md5(g::text), 100), 'hex'), '::1', ARRAY[1.5, NULL, 'NaN']
FROM generate_series(1, 20000) g;
INSERT INTO app.zero DEFAULT VALUES;
INSERT INTO app.zero DEFAULT VALUES;
INSERT INTO app.zero DEFAULT VALUES;
INSERT INTO "Sch""ema x"."ta""ble
'x' %s $1 \" SELECT g, E'line\n\r\t', NULL FROM generate_series(1, 10) g;
INSERT INTO app."a123456789b123456789c123456789d123456789e123456789f123456789xyz" VALUES (1), (2);
INSERT INTO app.parent SELECT g, 'a' || g, 'later' FROM generate_series(1, 1000) g;
INSERT INTO app.child (id, a, b) VALUES (1, 'child', 7);
INSERT INTO app.part SELECT g, timestamptz '2024-12-31 23:00:00+00' + g * interval '1 minute', 'n' || g
FROM generate_series(1, 500) g;
INSERT INTO app.no_key SELECT g, g % 7, 'c' FROM generate_series(1, 100) g;
INSERT INTO app.booking VALUES (1, '[2024-01-01, 2024-01-02)', 'a');
INSERT INTO app.entry (id, account, amount) SELECT g, g, NULL FROM generate_series(1, 300) g;
REFRESH MATERIALIZED VIEW app.moods;
REFRESH MATERIALIZED VIEW app.moods_of_moods;
ANALYZE;
