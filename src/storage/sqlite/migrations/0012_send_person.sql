-- Sends to one person wait behind one another by whichever name they go: `person` is the number of a hidden identity
-- where that is known, else as `recipient`.
ALTER TABLE send ADD COLUMN person TEXT NOT NULL DEFAULT '';

UPDATE send SET person = coalesce(
    (
        SELECT phone_number FROM contact
        WHERE contact.instance = send.instance AND contact.lid <> '' AND contact.phone_number <> ''
        AND contact.lid || '@lid' = send.recipient
    ),
    recipient
);

DROP INDEX send_recipient;

CREATE INDEX send_recipient ON send (instance, recipient);

CREATE INDEX send_person ON send (instance, person, due_time, number);
