-- migrate:up

-- Like ai_images, for what moves: one row per stored video, written only after its object exists.
CREATE TABLE videos (
    video_id      text        PRIMARY KEY,
    user_id       text        NOT NULL,
    request_id    text        NOT NULL,
    prediction_id text        NOT NULL,
    output_index  integer     NOT NULL,
    operation     text        NOT NULL,
    source        text        NOT NULL,
    prompt        text        NOT NULL,
    video_key     text        NOT NULL,
    video_url     text        NOT NULL,
    -- 0 where the file's header does not say.
    width         integer     NOT NULL,
    height        integer     NOT NULL,
    content_type  text        NOT NULL,
    bytes         bigint      NOT NULL,
    sha256        text        NOT NULL,
    is_favorite   boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (prediction_id, output_index)
);

-- What remains of a picture or video that its user has deleted: that there was one, so that the books still add up.
CREATE TABLE deleted_outputs (
    prediction_id text        NOT NULL,
    output_index  integer     NOT NULL,
    user_id       text        NOT NULL,
    request_id    text        NOT NULL,
    deleted_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (prediction_id, output_index)
);

-- A gallery is read newest first; a page begins after a place in this order.
DROP INDEX ai_images_newest;
CREATE INDEX ai_images_newest ON ai_images (user_id, created_at DESC, image_id DESC);
CREATE INDEX videos_newest ON videos (user_id, created_at DESC, video_id DESC);
-- Whether anybody still has an object: its key is made from this.
CREATE INDEX ai_images_content ON ai_images (sha256);
CREATE INDEX videos_content ON videos (sha256);

-- Sweeping of orphan objects: one row. `position` is the folder that comes next. The others are of the last batch of
-- deletions: its folder, and when it began and ended, by which a keeper knows whether it has crossed its own storing.
CREATE TABLE object_sweep (
    name           text        PRIMARY KEY,
    next_at        timestamptz NOT NULL DEFAULT now(),
    position       integer     NOT NULL DEFAULT 0,
    batch_position integer     NOT NULL DEFAULT 0,
    began_at       timestamptz,
    ended_at       timestamptz
);
INSERT INTO object_sweep (name) VALUES ('objects');

-- migrate:down

DROP TABLE object_sweep;
DROP INDEX ai_images_content, ai_images_newest;
CREATE INDEX ai_images_newest ON ai_images (user_id, created_at DESC, image_id);
DROP TABLE deleted_outputs, videos;
