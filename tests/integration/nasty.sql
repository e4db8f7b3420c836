-- A schema of everything that is known to trip migrations over. Run by the owner of the database.
CREATE SCHEMA "Sch""ema x";
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'it''s
weird', 'glad');
CREATE TYPE app.pair AS (a integer, b text);
CREATE DOMAIN app.positive AS integer CHECK (VALUE > 0);
CREATE TYPE app.span AS RANGE (subtype = integer);
CREATE SEQUENCE app.counter INCREMENT BY -3 MAXVALUE -1;

CREATE TABLE app.account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mood app.mood NOT NULL DEFAULT 'glad',
    moods app.mood[],
    amount app.positive,
    double_amount integer GENERATED ALWAYS AS (amount * 2) STORED,
    pair app.pair,
    span app.span,
    document jsonb,
    picture bytea,
    number serial,
    day date,
    pause interval,
    class regclass,
    ratio double precision,
    email text COLLATE "C"
);
CREATE TABLE app.binary_safe (
    id integer PRIMARY KEY, mood app.mood, amount app.positive, days date[], spans int4range, document jsonb,
    picture bytea, address inet, amounts numeric(12, 3)[]
);
CREATE TABLE app.zero ();
CREATE TABLE "Sch""ema x"."ta""ble
'x' %s $1 \" ("co""l
umn" integer PRIMARY KEY, "%s {}" text, "select" text);
CREATE TABLE app."a123456789b123456789c123456789d123456789e123456789f123456789xyz" (id integer PRIMARY KEY);
CREATE TABLE app.part (
    id integer NOT NULL, at timestamptz NOT NULL, note text, PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE app.part_2024 PARTITION OF app.part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE app.part_rest PARTITION OF app.part DEFAULT PARTITION BY HASH (id);
CREATE TABLE app.part_rest_0 PARTITION OF app.part_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.part_rest_1 PARTITION OF app.part_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE app.parent (id integer PRIMARY KEY, a text);
CREATE TABLE app.child (b integer) INHERITS (app.parent);
ALTER TABLE app.parent ADD COLUMN later text;
CREATE TABLE app.no_key (a integer NOT NULL, b integer NOT NULL, c text);
CREATE UNIQUE INDEX no_key_identity ON app.no_key (b, a);
ALTER TABLE app.no_key REPLICA IDENTITY USING INDEX no_key_identity;
CREATE UNLOGGED TABLE app.unlogged (id integer PRIMARY KEY);
CREATE TABLE app.booking (
    room integer, during tstzrange, EXCLUDE USING gist (during WITH &&),
    code text UNIQUE DEFERRABLE INITIALLY DEFERRED, CHECK (room > 0)
);

CREATE FUNCTION app.twice(value integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $f$
BEGIN
    RETURN value * 2; -- ; SET default_tablespace = '';
END
$f$;
CREATE PROCEDURE app.nothing() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE app.total(integer) (SFUNC = int4pl, STYPE = integer);
CREATE FUNCTION app.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE OPERATOR app.=== (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq);
CREATE COLLATION app.posix (locale = 'C');
CREATE TEXT SEARCH CONFIGURATION app.plain (COPY = pg_catalog.simple);

CREATE TABLE app.entry (
    id integer PRIMARY KEY,
    account bigint NOT NULL REFERENCES app.account ON DELETE CASCADE,
    part_id integer,
    part_at timestamptz,
    amount integer,
    FOREIGN KEY (part_id, part_at) REFERENCES app.part DEFERRABLE
);
ALTER TABLE app.part ADD CONSTRAINT part_parent FOREIGN KEY (id) REFERENCES app.parent;
ALTER TABLE app.entry ADD CONSTRAINT entry_sometimes FOREIGN KEY (amount) REFERENCES app.entry NOT VALID;
COMMENT ON CONSTRAINT entry_account_fkey ON app.entry IS 'it''s a key';
CREATE INDEX account_document ON app.account USING gin (document);
CREATE INDEX account_twice ON app.account (app.twice(number)) WHERE number > 3;
CREATE INDEX account_mood ON app.account (email, mood);
CREATE INDEX part_note ON app.part (note);
CREATE INDEX parent_a ON app.parent (a);
ALTER TABLE app.parent CLUSTER ON parent_a;
CREATE STATISTICS app.account_facts ON mood, amount FROM app.account;
CREATE TRIGGER account_stamp BEFORE UPDATE ON app.account FOR EACH ROW EXECUTE FUNCTION app.stamp();
CREATE TRIGGER account_quiet BEFORE UPDATE ON app.account FOR EACH ROW EXECUTE FUNCTION app.stamp();
ALTER TABLE app.account DISABLE TRIGGER account_quiet;
CREATE RULE no_key_guard AS ON DELETE TO app.no_key WHERE old.a = 7 DO INSTEAD NOTHING;
CREATE VIEW app.rich AS SELECT id, mood, count(*) AS entries FROM app.account GROUP BY id;
CREATE VIEW app.twice_rich AS SELECT * FROM app.rich;
CREATE MATERIALIZED VIEW app.moods AS SELECT mood, count(*) AS accounts FROM app.account GROUP BY mood;
CREATE MATERIALIZED VIEW app.moods_of_moods AS SELECT count(*) AS moods FROM app.moods;
CREATE MATERIALIZED VIEW app.empty AS SELECT 1 AS one WITH NO DATA;
CREATE UNIQUE INDEX moods_mood ON app.moods (mood);
ALTER TABLE app.booking ENABLE ROW LEVEL SECURITY;
CREATE POLICY booking_all ON app.booking TO payments_app USING (true);
COMMENT ON TABLE app.account IS 'looks like a dump

--
-- TOC entry 1 (class 1259 OID 3)
-- Name: z; Type: TABLE; Schema: public; Owner: -
--

SELECT 1;
--
-- PostgreSQL database dump complete
--
';

GRANT USAGE ON SCHEMA app TO payments_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app TO payments_app;
GRANT SELECT (id) ON app.account TO PUBLIC;
REVOKE EXECUTE ON FUNCTION app.twice FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO payments_app;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
