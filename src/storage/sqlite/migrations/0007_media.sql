-- Media. Their bytes lie in the object store, under the instance's number and the id. Times are microseconds
-- since 1970. State 0 is one whose bytes are still being written, or are to be removed.
CREATE TABLE media (
    instance BIGINT NOT NULL,
    id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    state INTEGER NOT NULL,
    mime_type TEXT NOT NULL,
    file_name TEXT NOT NULL,
    size BIGINT NOT NULL,
    sha256 BLOB NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    duration BIGINT NOT NULL,
    thumbnail BLOB NOT NULL,
    source BLOB NOT NULL,
    chat TEXT NOT NULL,
    message_id TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    expire_time BIGINT,
    attempts BIGINT NOT NULL,
    attempt_time BIGINT,
    PRIMARY KEY (instance, id)
);

CREATE INDEX media_attempt ON media (attempt_time) WHERE attempt_time IS NOT NULL;

CREATE INDEX media_expire ON media (expire_time) WHERE expire_time IS NOT NULL;
