-- Whether calls are rejected, and what is written to those who call.
ALTER TABLE instance ADD COLUMN reject_calls SMALLINT NOT NULL DEFAULT 0;

ALTER TABLE instance ADD COLUMN reject_calls_text TEXT NOT NULL DEFAULT '';

-- The latest calls. `open` is 1 until the end of a call is told, `answer` the text still to be sent to its
-- caller; `body` is an encoded `wagate.v1.Call`.
CREATE TABLE call (
    instance BIGINT NOT NULL,
    call_id TEXT NOT NULL,
    peer TEXT NOT NULL,
    creator TEXT NOT NULL,
    time BIGINT NOT NULL,
    open SMALLINT NOT NULL,
    verdict INTEGER NOT NULL,
    answer TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (instance, call_id)
);

CREATE INDEX call_time ON call (instance, time);
