-- name: page
-- $1 user, $2 and $3 the place after which the page begins (NULL: at the newest), $4 an operation or NULL, $5 whether
-- favourites only, $6 one more than the page holds. Each table gives its own first rows, from an index in this order;
-- the filters look at what they pass over, which is one user's at most.
WITH pictures AS (
    SELECT image_id, request_id, operation, source, prompt, image_url AS url, thumbnail_url, width, height,
           content_type, bytes, is_favorite, created_at
      FROM ai_images
     WHERE user_id = $1 AND (created_at, image_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::text, ''))
       AND ($4::text IS NULL OR operation = $4) AND (is_favorite OR NOT $5)
     ORDER BY created_at DESC, image_id DESC
     LIMIT $6
), moving AS (
    SELECT video_id, request_id, operation, source, prompt, video_url, '', width, height,
           content_type, bytes, is_favorite, created_at
      FROM videos
     WHERE user_id = $1 AND (created_at, video_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::text, ''))
       AND ($4::text IS NULL OR operation = $4) AND (is_favorite OR NOT $5)
     ORDER BY created_at DESC, video_id DESC
     LIMIT $6
)
SELECT * FROM pictures
 UNION ALL
SELECT * FROM moving
 ORDER BY created_at DESC, image_id DESC
 LIMIT $6;

-- name: set_favorite
-- $3 is what it shall be, NULL for the opposite of what it is.
WITH picture AS (
    UPDATE ai_images SET is_favorite = coalesce($3::boolean, NOT is_favorite)
     WHERE user_id = $1 AND image_id = $2
    RETURNING is_favorite
), video AS (
    UPDATE videos SET is_favorite = coalesce($3::boolean, NOT is_favorite)
     WHERE user_id = $1 AND video_id = $2
    RETURNING is_favorite
)
SELECT is_favorite FROM picture
 UNION ALL
SELECT is_favorite FROM video;

-- name: delete
-- The row goes, and a row that says so takes its place: the books count both. Objects are left to the sweeper, since
-- others may have the same picture.
WITH picture AS (
    DELETE FROM ai_images WHERE user_id = $1 AND image_id = $2
    RETURNING prediction_id, output_index, user_id, request_id
), video AS (
    DELETE FROM videos WHERE user_id = $1 AND video_id = $2
    RETURNING prediction_id, output_index, user_id, request_id
)
INSERT INTO deleted_outputs (prediction_id, output_index, user_id, request_id)
SELECT * FROM picture
 UNION ALL
SELECT * FROM video
RETURNING true;
