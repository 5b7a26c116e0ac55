-- migrate:up

-- What the first attempt has asked for, so that every later one asks for the same; and when the user gave up.
ALTER TABLE generations
    ADD COLUMN model               text,
    ADD COLUMN trigger_word        text,
    ADD COLUMN cancel_requested_at timestamptz;

-- Each user's own model: that of the training that was admitted last, of those that succeeded.
CREATE TABLE user_models (
    user_id      text        PRIMARY KEY,
    version      text        NOT NULL,
    trigger_word text        NOT NULL,
    request_id   text        NOT NULL,
    admitted_at  timestamptz NOT NULL,
    trained_at   timestamptz NOT NULL DEFAULT now()
);

-- Runs begun by the minute, over all workers together: what the spend breaker adds up.
CREATE TABLE provider_starts (
    minute  timestamptz PRIMARY KEY,
    started integer     NOT NULL
) WITH (fillfactor = 50);

-- Runs that announced themselves and that no request waits for; each is stopped at the provider and then forgotten.
CREATE TABLE stray_runs (
    prediction_id text        PRIMARY KEY,
    collection    text        NOT NULL,
    user_id       text        NOT NULL,
    request_id    text        NOT NULL,
    seen_at       timestamptz NOT NULL DEFAULT now(),
    due_at        timestamptz NOT NULL DEFAULT now()
);

-- migrate:down

DROP TABLE stray_runs, provider_starts, user_models;
ALTER TABLE generations DROP COLUMN cancel_requested_at, DROP COLUMN trigger_word, DROP COLUMN model;
