-- migrate:up

-- One row per user. A balance changes only together with a ledger entry and the next version.
CREATE TABLE accounts (
    user_id    text        PRIMARY KEY,
    balance    bigint      NOT NULL DEFAULT 0 CHECK (balance >= 0),
    version    bigint      NOT NULL DEFAULT 0 CHECK (version >= 0),
    unlimited  boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 75);

-- Append-only. Repair is another entry.
CREATE TABLE ledger (
    entry_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id       text        NOT NULL,
    amount        bigint      NOT NULL CHECK (amount <> 0),
    kind          text        NOT NULL CHECK (kind IN ('charge', 'refund', 'purchase', 'subscription_grant', 'bonus')),
    reference_id  text        NOT NULL,
    balance_after bigint      NOT NULL CHECK (balance_after >= 0),
    version       bigint      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (reference_id, kind)
);

-- One row per admitted request, from admission to its end. admitted_at is the broker's append time.
CREATE TABLE generations (
    user_id       text        NOT NULL,
    request_id    text        NOT NULL,
    operation     text        NOT NULL,
    state         text        NOT NULL DEFAULT 'admitted' CHECK (state IN (
                      'admitted', 'queued', 'submitting', 'running', 'storing', 'completed', 'failed', 'cancelled')),
    cost          bigint      NOT NULL CHECK (cost >= 0),
    balance       bigint      NOT NULL,
    version       bigint      NOT NULL,
    prompt        text        NOT NULL,
    options       json        NOT NULL,
    context       json,
    partition     integer     NOT NULL,
    admitted_at   timestamptz NOT NULL,
    -- When the services should look at this row next, and who is looking until when.
    due_at        timestamptz,
    lease_until   timestamptz,
    attempts      integer     NOT NULL DEFAULT 0,
    prediction_id text,
    -- The provider's output URLs, from the moment it succeeded.
    output_urls   json,
    queued_at     timestamptz,
    submitted_at  timestamptz,
    running_at    timestamptz,
    storing_at    timestamptz,
    finished_at   timestamptz,
    reason        text,
    refunded      bigint      NOT NULL DEFAULT 0 CHECK (refunded >= 0 AND refunded <= cost),
    PRIMARY KEY (user_id, request_id)
) WITH (fillfactor = 85);

-- A partition's windows are rebuilt from this.
CREATE INDEX generations_admitted ON generations (partition, admitted_at);
-- What the dispatcher, the keeper and the reconciler claim from; holds unfinished work only.
CREATE INDEX generations_due ON generations (state, due_at)
    WHERE state IN ('queued', 'submitting', 'running', 'storing');
CREATE INDEX generations_prediction ON generations (prediction_id) WHERE prediction_id IS NOT NULL;

-- How far each stream has been handled: Postgres, not Kafka, says where to read on. `decisions` are those of
-- the records in [prev_offset, next_offset); clock_ms is the partition's time, which never runs backwards.
CREATE TABLE stream_progress (
    stream      text        NOT NULL,
    partition   integer     NOT NULL,
    prev_offset bigint      NOT NULL DEFAULT 0,
    next_offset bigint      NOT NULL DEFAULT 0,
    clock_ms    bigint      NOT NULL DEFAULT 0,
    decisions   bytea       NOT NULL DEFAULT '',
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, partition),
    CHECK (prev_offset <= next_offset)
) WITH (fillfactor = 50);

-- migrate:down

DROP TABLE stream_progress, generations, ledger, accounts;
