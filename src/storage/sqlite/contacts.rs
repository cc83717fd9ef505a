//! The ledger of who is who, and the contacts that follow from it.

use std::time::SystemTime;

use sqlx::{Row as _, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    error::strange,
    rows,
    time::{from_micros, micros},
    unit::Unit,
};
use crate::{
    domain::ids::{ContactId, InstanceNumber},
    storage::{
        EventsOf, Result,
        contact::{ContactKey, ContactMerge, ContactRow, Sighting},
    },
};

/// A statement with the columns that `contact_of` reads in between.
macro_rules! with_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id, lid, phone_number, name, create_time, update_time ",
            $after
        )
    };
}

fn contact_of(row: &SqliteRow) -> Result<ContactRow> {
    let id = Uuid::try_parse(row.try_get(0)?).map_err(|_| strange("a contact"))?;
    Ok(ContactRow {
        id: ContactId(id),
        lid: row.try_get(1)?,
        phone_number: row.try_get(2)?,
        name: row.try_get(3)?,
        create_time: from_micros(row.try_get(4)?),
        update_time: from_micros(row.try_get(5)?),
    })
}

/// What `learn` is given.
pub(super) struct Learn {
    pub(super) instance: InstanceNumber,
    pub(super) sightings: Vec<Sighting>,
    pub(super) events: EventsOf<ContactMerge>,
}

/// Enters sightings into the ledger, one after the other.
pub(super) async fn learn(work: &Learn, unit: &mut Unit) -> Result<()> {
    if unit.is_deleted(work.instance)? {
        return Ok(());
    }
    for sighting in &work.sightings {
        let mut ledger = Ledger::open(unit.connection().await?, work.instance);
        if let Some(merge) = ledger.enter(sighting).await? {
            unit.append((work.events)(&merge))?;
        }
    }
    Ok(())
}

/// Finds a contact.
pub(super) async fn find(
    pool: &SqlitePool,
    instance: InstanceNumber,
    key: &ContactKey,
) -> Result<Option<ContactRow>> {
    let mut connection = pool.acquire().await?;
    let mut ledger = Ledger::open(&mut connection, instance);
    match key {
        ContactKey::Id(id) => ledger.by_id(*id).await,
        ContactKey::Lid(lid) => ledger.by_lid(lid).await,
        ContactKey::Number(number) => match ledger.holder(number).await? {
            Some(lid) => ledger.by_lid(&lid).await,
            None => ledger.by_number(number).await,
        },
    }
}

/// Lists contacts in the order of their ids, after one.
pub(super) async fn list(
    pool: &SqlitePool,
    instance: InstanceNumber,
    after: Option<ContactId>,
    limit: usize,
) -> Result<Vec<ContactRow>> {
    let found = sqlx::query(with_columns!(
        "SELECT",
        "FROM contact WHERE instance = ? AND id > ? ORDER BY id LIMIT ?"
    ))
    .bind(instance.0)
    .bind(after.map_or(String::new(), |id| id.to_string()))
    .bind(rows::limit(limit))
    .fetch_all(pool)
    .await?;
    found.iter().map(contact_of).collect()
}

/// One instance's ledger within a transaction, or for a look.
struct Ledger<'c> {
    connection: &'c mut SqliteConnection,
    instance: InstanceNumber,
    /// Becomes the `update_time` of what changes.
    now: i64,
}

impl<'c> Ledger<'c> {
    fn open(connection: &'c mut SqliteConnection, instance: InstanceNumber) -> Self {
        Self {
            connection,
            instance,
            now: micros(SystemTime::now()),
        }
    }

    async fn enter(&mut self, seen: &Sighting) -> Result<Option<ContactMerge>> {
        let (lid, number) = (&*seen.lid, &*seen.phone_number);
        let (home, gone) = match (lid.is_empty(), number.is_empty()) {
            (true, true) => return Ok(None),
            (false, true) => (self.of_lid(lid).await?, None),
            (true, false) => match self.holder(number).await? {
                Some(lid) => (self.of_lid(&lid).await?, None),
                None => (self.of_number(number).await?, None),
            },
            (false, false) => self.pair(seen).await?,
        };
        self.name(home, seen).await?;
        let Some(gone) = gone else { return Ok(None) };
        let kept = self.by_id(home).await?;
        Ok(kept.map(|kept| ContactMerge { kept, gone }))
    }

    /// Enters a pair; returns the contact of the hidden identity, and the one that went into it.
    async fn pair(&mut self, seen: &Sighting) -> Result<(ContactId, Option<ContactId>)> {
        let (lid, number) = (&*seen.lid, &*seen.phone_number);
        let before = self.holder(number).await?;
        sqlx::query(
            "INSERT INTO contact_pair (instance, lid, phone_number, source, first_time, last_time) \
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (instance, lid, phone_number) DO UPDATE SET \
             source = CASE WHEN excluded.last_time >= last_time THEN excluded.source ELSE source END, \
             first_time = min(first_time, excluded.first_time), \
             last_time = max(last_time, excluded.last_time)",
        )
        .bind(self.instance.0)
        .bind(lid)
        .bind(number)
        .bind(&seen.source)
        .bind(micros(seen.time))
        .bind(micros(seen.time))
        .execute(&mut *self.connection)
        .await?;
        // Only a number that nobody held has a contact of its own.
        let alone = match &before {
            None => self.by_number(number).await?,
            Some(_) => None,
        };
        let known = self.by_lid(lid).await?;
        let (home, gone) = match (known, alone) {
            (Some(known), Some(alone)) => {
                self.merge(&known, &alone).await?;
                (known.id, Some(alone.id))
            }
            (Some(known), None) => (known.id, None),
            (None, Some(alone)) => {
                self.rename(alone.id, lid).await?;
                (alone.id, None)
            }
            (None, None) => (self.create(lid, "").await?, None),
        };
        let mut touched = vec![lid.to_owned()];
        touched.extend(before.filter(|before| before != lid));
        self.settle_numbers(&touched).await?;
        Ok((home, gone))
    }

    /// Who holds a number now, by all that is known.
    async fn holder(&mut self, number: &str) -> Result<Option<String>> {
        let row = sqlx::query(
            "SELECT lid FROM contact_pair WHERE instance = ? AND phone_number = ? \
             ORDER BY last_time DESC, lid DESC LIMIT 1",
        )
        .bind(self.instance.0)
        .bind(number)
        .fetch_optional(&mut *self.connection)
        .await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// The latest number that a hidden identity still holds.
    async fn number_of(&mut self, lid: &str) -> Result<String> {
        let row = sqlx::query(
            "SELECT phone_number FROM contact_pair AS own WHERE instance = ? AND lid = ? \
             AND NOT EXISTS (SELECT 1 FROM contact_pair AS other \
             WHERE other.instance = own.instance AND other.phone_number = own.phone_number \
             AND (other.last_time, other.lid) > (own.last_time, own.lid)) \
             ORDER BY last_time DESC, phone_number DESC LIMIT 1",
        )
        .bind(self.instance.0)
        .bind(lid)
        .fetch_optional(&mut *self.connection)
        .await?;
        row.map_or(Ok(String::new()), |row| Ok(row.try_get(0)?))
    }

    /// Shows for each of these what the ledger says; first what is taken away, then what is given.
    async fn settle_numbers(&mut self, lids: &[String]) -> Result<()> {
        let mut wanted = Vec::new();
        for lid in lids {
            let number = self.number_of(lid).await?;
            let Some(contact) = self.by_lid(lid).await? else {
                continue;
            };
            if contact.phone_number != number {
                self.show_number(contact.id, "").await?;
                wanted.push((contact.id, number));
            }
        }
        for (id, number) in wanted {
            self.show_number(id, &number).await?;
        }
        Ok(())
    }

    async fn show_number(&mut self, id: ContactId, number: &str) -> Result<()> {
        sqlx::query(
            "UPDATE contact SET phone_number = ?, update_time = ? WHERE instance = ? AND id = ?",
        )
        .bind(number)
        .bind(self.now)
        .bind(self.instance.0)
        .bind(id.to_string())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// The contact of a number alone turns out to be a hidden identity that had none.
    async fn rename(&mut self, id: ContactId, lid: &str) -> Result<()> {
        sqlx::query("UPDATE contact SET lid = ?, update_time = ? WHERE instance = ? AND id = ?")
            .bind(lid)
            .bind(self.now)
            .bind(self.instance.0)
            .bind(id.to_string())
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    /// The contact of a number goes into that of a hidden identity, with its later name and its ids.
    async fn merge(&mut self, kept: &ContactRow, gone: &ContactRow) -> Result<()> {
        let (kept, gone) = (kept.id.to_string(), gone.id.to_string());
        sqlx::query(
            "UPDATE contact AS kept SET name = gone.name, name_time = gone.name_time, update_time = ? \
             FROM contact AS gone WHERE kept.instance = ? AND kept.id = ? \
             AND gone.instance = kept.instance AND gone.id = ? AND gone.name <> '' \
             AND (gone.name_time, gone.name) > (kept.name_time, kept.name)",
        )
        .bind(self.now)
        .bind(self.instance.0)
        .bind(&kept)
        .bind(&gone)
        .execute(&mut *self.connection)
        .await?;
        sqlx::query("DELETE FROM contact WHERE instance = ? AND id = ?")
            .bind(self.instance.0)
            .bind(&gone)
            .execute(&mut *self.connection)
            .await?;
        // One step from any old id to the contact, however often it was merged.
        sqlx::query("UPDATE contact_alias SET id = ? WHERE instance = ? AND id = ?")
            .bind(&kept)
            .bind(self.instance.0)
            .bind(&gone)
            .execute(&mut *self.connection)
            .await?;
        sqlx::query("INSERT INTO contact_alias (instance, old_id, id) VALUES (?, ?, ?)")
            .bind(self.instance.0)
            .bind(&gone)
            .bind(&kept)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    async fn name(&mut self, id: ContactId, seen: &Sighting) -> Result<()> {
        if seen.name.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "UPDATE contact SET update_time = iif(name = ?1, update_time, ?2), name = ?1, \
             name_time = ?3 WHERE instance = ?4 AND id = ?5 AND (name_time, name) < (?3, ?1)",
        )
        .bind(&seen.name)
        .bind(self.now)
        .bind(micros(seen.time))
        .bind(self.instance.0)
        .bind(id.to_string())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn of_lid(&mut self, lid: &str) -> Result<ContactId> {
        match self.by_lid(lid).await? {
            Some(known) => Ok(known.id),
            None => self.create(lid, "").await,
        }
    }

    async fn of_number(&mut self, number: &str) -> Result<ContactId> {
        match self.by_number(number).await? {
            Some(known) => Ok(known.id),
            None => self.create("", number).await,
        }
    }

    async fn create(&mut self, lid: &str, number: &str) -> Result<ContactId> {
        let id = ContactId::generate();
        sqlx::query(
            "INSERT INTO contact (instance, id, lid, phone_number, name, name_time, create_time, \
             update_time) VALUES (?, ?, ?, ?, '', 0, ?, ?)",
        )
        .bind(self.instance.0)
        .bind(id.to_string())
        .bind(lid)
        .bind(number)
        .bind(self.now)
        .bind(self.now)
        .execute(&mut *self.connection)
        .await?;
        Ok(id)
    }

    async fn by_id(&mut self, id: ContactId) -> Result<Option<ContactRow>> {
        let row = sqlx::query(with_columns!(
            "SELECT",
            "FROM contact WHERE instance = ?1 AND id = coalesce(\
             (SELECT id FROM contact_alias WHERE instance = ?1 AND old_id = ?2), ?2)"
        ))
        .bind(self.instance.0)
        .bind(id.to_string())
        .fetch_optional(&mut *self.connection)
        .await?;
        row.as_ref().map(contact_of).transpose()
    }

    async fn by_lid(&mut self, lid: &str) -> Result<Option<ContactRow>> {
        let row = sqlx::query(with_columns!(
            "SELECT",
            "FROM contact WHERE instance = ? AND lid = ? AND lid <> ''"
        ))
        .bind(self.instance.0)
        .bind(lid)
        .fetch_optional(&mut *self.connection)
        .await?;
        row.as_ref().map(contact_of).transpose()
    }

    async fn by_number(&mut self, number: &str) -> Result<Option<ContactRow>> {
        let row = sqlx::query(with_columns!(
            "SELECT",
            "FROM contact WHERE instance = ? AND phone_number = ? AND phone_number <> ''"
        ))
        .bind(self.instance.0)
        .bind(number)
        .fetch_optional(&mut *self.connection)
        .await?;
        row.as_ref().map(contact_of).transpose()
    }
}
