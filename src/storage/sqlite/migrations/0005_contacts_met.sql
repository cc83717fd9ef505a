-- Whether a contact was met: wrote, or was written to. Nothing is told of one that was not.
ALTER TABLE contact ADD COLUMN met SMALLINT NOT NULL DEFAULT 0;
