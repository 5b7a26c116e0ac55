-- migrate:up

-- What has been done with dead letters, which themselves stay on their topic. Append-only but for where a redriven
-- record went: that is written when the broker has answered. Until then, and for ever if the command died in between,
-- it may or may not be published; redriving the letter once more is harmless.
CREATE TABLE dead_letter_actions (
    action_no    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action_id    text        NOT NULL UNIQUE,
    -- topic/partition/offset of the record that is in the letter, and of the first one of its chain of redrives.
    letter_id    text        NOT NULL,
    root_id      text        NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('redriven', 'dropped')),
    -- How many redrives the chain has had with this one.
    attempt      integer     NOT NULL CHECK (attempt >= 0),
    reason       text        NOT NULL,
    -- A digest of key and value, by which the same record is known when it comes back.
    content      text        NOT NULL,
    acted_by     text        NOT NULL,
    note         text        NOT NULL DEFAULT '',
    acted_at     timestamptz NOT NULL DEFAULT now(),
    to_topic     text,
    to_partition integer,
    to_offset    bigint,
    CHECK (kind = 'redriven' OR to_topic IS NULL)
);
CREATE INDEX dead_letter_actions_letter ON dead_letter_actions (letter_id);
CREATE INDEX dead_letter_actions_root ON dead_letter_actions (root_id);
CREATE INDEX dead_letter_actions_place ON dead_letter_actions (to_topic, to_partition, to_offset);
CREATE UNIQUE INDEX dead_letter_actions_attempt ON dead_letter_actions (root_id, attempt) WHERE kind = 'redriven';
CREATE UNIQUE INDEX dead_letter_actions_drop ON dead_letter_actions (letter_id) WHERE kind = 'dropped';

-- migrate:down

DROP TABLE dead_letter_actions;
