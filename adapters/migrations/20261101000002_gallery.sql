-- migrate:up

-- One row per completed generation.
CREATE TABLE generated_images (
    user_id       text        NOT NULL,
    request_id    text        NOT NULL,
    operation     text        NOT NULL,
    prompt        text        NOT NULL,
    prediction_id text        NOT NULL,
    image_count   integer     NOT NULL,
    cost          bigint      NOT NULL,
    refunded      bigint      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, request_id)
);

-- The gallery: one row per stored picture, written only after its object exists.
CREATE TABLE ai_images (
    image_id      text        PRIMARY KEY,
    user_id       text        NOT NULL,
    request_id    text        NOT NULL,
    prediction_id text        NOT NULL,
    output_index  integer     NOT NULL,
    operation     text        NOT NULL,
    source        text        NOT NULL,
    prompt        text        NOT NULL,
    image_key     text        NOT NULL,
    thumbnail_key text        NOT NULL,
    image_url     text        NOT NULL,
    thumbnail_url text        NOT NULL,
    width         integer     NOT NULL,
    height        integer     NOT NULL,
    content_type  text        NOT NULL,
    bytes         bigint      NOT NULL,
    sha256        text        NOT NULL,
    is_favorite   boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (prediction_id, output_index)
);
CREATE INDEX ai_images_newest ON ai_images (user_id, created_at DESC, image_id);

-- When each user's work was last handed to the provider: whoever was served longest ago goes first.
CREATE TABLE provider_service (
    user_id   text        PRIMARY KEY,
    served_at timestamptz NOT NULL
);

-- The pace of creation over all workers together: when the next call may go out.
CREATE TABLE provider_pace (
    name    text        PRIMARY KEY,
    next_at timestamptz NOT NULL
);

-- migrate:down

DROP TABLE provider_pace, provider_service, ai_images, generated_images;
