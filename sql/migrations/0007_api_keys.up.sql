-- Who may use the HTTP API, and who did what with it.

CREATE TABLE api_key (
    id         text        PRIMARY KEY COLLATE "C",
    name       text        NOT NULL,
    hash       bytea       NOT NULL,
    scopes     text[]      NOT NULL,
    per_second float8      NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    used_at    timestamptz
);
CREATE INDEX api_key_name ON api_key (name);
COMMENT ON TABLE api_key IS 'Keys of the HTTP API. The key itself is shown once and kept nowhere.';
COMMENT ON COLUMN api_key.name IS 'Who holds it. A name has at most two live keys: the old one and the new one while it is changed.';
COMMENT ON COLUMN api_key.hash IS 'SHA-256 of the key''s 32 random bytes.';
COMMENT ON COLUMN api_key.scopes IS 'What it allows: account:kind:action, each of which may be *.';
COMMENT ON COLUMN api_key.per_second IS 'Messages, and other requests, that it may make in a second at one server; 0: any number.';
COMMENT ON COLUMN api_key.used_at IS 'About when it was last used; NULL: never.';

CREATE TABLE api_audit (
    id      int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    key     text        NOT NULL,
    name    text        NOT NULL,
    action  text        NOT NULL,
    account text        NOT NULL,
    target  text        NOT NULL,
    n       int8        NOT NULL DEFAULT 0,
    detail  text        NOT NULL DEFAULT '',
    address text        NOT NULL DEFAULT ''
);
CREATE INDEX api_audit_at ON api_audit (at);
COMMENT ON TABLE api_audit IS 'Who changed what over the API or by server key, kept as long as messages. Append-only.';
COMMENT ON COLUMN api_audit.key IS 'The key''s id; empty: the command line.';
COMMENT ON COLUMN api_audit.target IS 'The message, approval, gate or key; of many messages the first.';
COMMENT ON COLUMN api_audit.n IS 'How many messages or events.';
