-- `starred` is 1 for what the account has starred. `hidden` is 1 for what it has deleted for itself: the row stays, so
-- that the message does not come back, without what it said. It is 1, too, for what is noted of a message that is not
-- here yet: such a row has that message as its `target`.
ALTER TABLE message ADD COLUMN starred SMALLINT NOT NULL DEFAULT 0;

ALTER TABLE message ADD COLUMN hidden SMALLINT NOT NULL DEFAULT 0;

CREATE INDEX message_starred ON message (instance, time, number) WHERE starred = 1;

-- Media that more than one message has had. Nobody has counted so far, so it may be all of them.
CREATE TABLE media_shared (
    instance BIGINT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (instance, id)
);

INSERT INTO media_shared SELECT instance, id FROM media WHERE message_id <> '';

-- One trigger in place of two: nothing says which of two comes first, and a message that is written anew with the words
-- that it had would be lost to the search if the old ones left last.
DROP TRIGGER message_words_leave;

DROP TRIGGER message_words_return;

CREATE TRIGGER message_words_change AFTER UPDATE OF words ON message WHEN old.words <> new.words BEGIN
    INSERT INTO message_words (message_words, rowid, words) SELECT 'delete', old.number, old.words WHERE old.words <> '';
    INSERT INTO message_words (rowid, words) SELECT new.number, new.words WHERE new.words <> '';
END;
