-- Who is who. Times are microseconds since 1970; names that are not known are empty.
CREATE TABLE contact (
    instance BIGINT NOT NULL,
    id TEXT NOT NULL,
    lid TEXT NOT NULL,
    phone_number TEXT NOT NULL,
    name TEXT NOT NULL,
    name_time BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    PRIMARY KEY (instance, id)
);

CREATE UNIQUE INDEX contact_lid ON contact (instance, lid) WHERE lid <> '';

CREATE UNIQUE INDEX contact_number ON contact (instance, phone_number) WHERE phone_number <> '';

-- The ledger: which hidden identity was seen with which number, and when.
CREATE TABLE contact_pair (
    instance BIGINT NOT NULL,
    lid TEXT NOT NULL,
    phone_number TEXT NOT NULL,
    source TEXT NOT NULL,
    first_time BIGINT NOT NULL,
    last_time BIGINT NOT NULL,
    PRIMARY KEY (instance, lid, phone_number)
);

CREATE INDEX contact_pair_number ON contact_pair (instance, phone_number, last_time, lid);

-- Ids of contacts that turned out to be the same person as another.
CREATE TABLE contact_alias (
    instance BIGINT NOT NULL,
    old_id TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (instance, old_id)
);

CREATE INDEX contact_alias_id ON contact_alias (instance, id);
