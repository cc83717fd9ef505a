//! The ledger of who is who, and the contacts that follow from it.

use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

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
        contact::{ContactKey, ContactNews, ContactRow, Sighting},
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
    pub(super) events: EventsOf<ContactNews>,
}

/// Enters sightings into the ledger, one after the other, and tells what came of all of them.
pub(super) async fn learn(work: &Learn, unit: &mut Unit) -> Result<()> {
    if unit.is_deleted(work.instance)? {
        return Ok(());
    }
    let mut ledger = Ledger::open(unit.connection().await?, work.instance);
    for sighting in &work.sightings {
        ledger.enter(sighting).await?;
    }
    for news in ledger.news().await? {
        unit.append((work.events)(&news))?;
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

/// The one name of a recipient among those that wait: the number of a hidden identity, where that is known.
pub(super) async fn person(
    connection: &mut SqliteConnection,
    instance: InstanceNumber,
    recipient: &str,
) -> Result<String> {
    let known = match recipient.strip_suffix("@lid") {
        Some(lid) => Ledger::open(connection, instance).by_lid(lid).await?,
        None => None,
    };
    let number = known.map(|contact| contact.phone_number);
    Ok(number
        .filter(|number| !number.is_empty())
        .unwrap_or_else(|| recipient.to_owned()))
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
    /// The contacts that were written to.
    touched: BTreeMap<ContactId, Before>,
    /// Who was met, and when first.
    met: HashMap<ContactId, SystemTime>,
    /// Contacts that are gone, each with the one that stays.
    merges: Vec<(ContactId, ContactId)>,
}

/// What a contact was before anything was entered.
struct Before {
    /// `None` where there was none.
    row: Option<ContactRow>,
    met: bool,
}

impl<'c> Ledger<'c> {
    fn open(connection: &'c mut SqliteConnection, instance: InstanceNumber) -> Self {
        Self {
            connection,
            instance,
            now: micros(SystemTime::now()),
            touched: BTreeMap::new(),
            met: HashMap::new(),
            merges: Vec::new(),
        }
    }

    async fn enter(&mut self, seen: &Sighting) -> Result<()> {
        let (lid, number) = (&*seen.lid, &*seen.phone_number);
        let home = match (lid.is_empty(), number.is_empty()) {
            (true, true) => return Ok(()),
            (false, true) => self.of_lid(lid).await?,
            (true, false) => match self.holder(number).await? {
                Some(lid) => self.of_lid(&lid).await?,
                None => self.of_number(number).await?,
            },
            (false, false) => self.pair(seen).await?,
        };
        if seen.met {
            self.touch(home).await?;
            self.meet(home, seen.time);
        }
        self.name(home, seen).await
    }

    fn meet(&mut self, id: ContactId, time: SystemTime) {
        let first = self.met.entry(id).or_insert(time);
        *first = time.min(*first);
    }

    /// Remembers what a contact is, before it is written to for the first time.
    async fn touch(&mut self, id: ContactId) -> Result<()> {
        if self.touched.contains_key(&id) {
            return Ok(());
        }
        let row = sqlx::query(with_columns!(
            "SELECT",
            ", met FROM contact WHERE instance = ? AND id = ?"
        ))
        .bind(self.instance.0)
        .bind(id.to_string())
        .fetch_optional(&mut *self.connection)
        .await?;
        let before = Before {
            row: row.as_ref().map(contact_of).transpose()?,
            met: row.as_ref().map_or(Ok(false), |row| row.try_get(6))?,
        };
        self.touched.insert(id, before);
        Ok(())
    }

    /// What is to be told of all that was entered, in the order in which the contacts were created.
    async fn news(mut self) -> Result<Vec<ContactNews>> {
        let mut news = Vec::new();
        let mut merged: HashMap<ContactId, Vec<ContactId>> = HashMap::new();
        for (gone, kept) in std::mem::take(&mut self.merges) {
            let before = self.touched.get(&gone);
            if before.is_some_and(|before| before.row.is_some()) {
                merged.entry(kept).or_default().push(gone);
            } else if let Some(time) = self.met.remove(&gone) {
                // Nobody could know the one that is gone: the other one is who was met.
                self.meet(kept, time);
            }
        }
        for (id, before) in std::mem::take(&mut self.touched) {
            let gone = merged.remove(&id).unwrap_or_default();
            let time = self.met.get(&id).copied();
            if !before.met && gone.is_empty() && time.is_none() {
                continue;
            }
            let Some(after) = self.by_id(id).await?.filter(|after| after.id == id) else {
                continue;
            };
            if !before.met {
                self.mark_met(id).await?;
            }
            if !gone.is_empty() {
                news.extend(gone.into_iter().map(|gone| ContactNews::Merged {
                    kept: after.clone(),
                    gone,
                }));
            } else if let (false, Some(time)) = (before.met, time) {
                let contact = after;
                news.push(ContactNews::Created { contact, time });
            } else if let Some(before) = before.row.filter(|before| !shows_same(before, &after)) {
                news.push(ContactNews::Updated { before, after });
            }
        }
        Ok(news)
    }

    /// Enters a pair; returns the contact of the hidden identity.
    async fn pair(&mut self, seen: &Sighting) -> Result<ContactId> {
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
        let home = match (known, alone) {
            (Some(known), Some(alone)) => {
                self.merge(known.id, alone.id).await?;
                known.id
            }
            (Some(known), None) => known.id,
            // The contact of a number alone turns out to be a hidden identity that had none.
            (None, Some(alone)) => {
                self.show(
                    "UPDATE contact SET lid = ?, update_time = ? WHERE instance = ? AND id = ?",
                    alone.id,
                    lid,
                )
                .await?;
                self.line_up(lid, &alone.phone_number).await?;
                alone.id
            }
            (None, None) => self.create(lid, "").await?,
        };
        let mut touched = vec![lid.to_owned()];
        touched.extend(before.filter(|before| before != lid));
        self.settle_numbers(&touched).await?;
        Ok(home)
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
                self.line_up(lid, &number).await?;
                wanted.push((contact.id, number));
            }
        }
        for (id, number) in wanted {
            self.show_number(id, &number).await?;
        }
        Ok(())
    }

    /// Lets the sends to a hidden identity wait among those to its number, if it has one.
    async fn line_up(&mut self, lid: &str, number: &str) -> Result<()> {
        sqlx::query(
            "UPDATE send SET person = iif(?1 = '', recipient, ?1) \
             WHERE instance = ?2 AND recipient = ?3",
        )
        .bind(number)
        .bind(self.instance.0)
        .bind(format!("{lid}@lid"))
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn show_number(&mut self, id: ContactId, number: &str) -> Result<()> {
        self.show(
            "UPDATE contact SET phone_number = ?, update_time = ? WHERE instance = ? AND id = ?",
            id,
            number,
        )
        .await
    }

    /// Writes a name of a contact.
    async fn show(&mut self, statement: &'static str, id: ContactId, name: &str) -> Result<()> {
        self.touch(id).await?;
        sqlx::query(statement)
            .bind(name)
            .bind(self.now)
            .bind(self.instance.0)
            .bind(id.to_string())
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    /// The contact of a number goes into that of a hidden identity, with its later name and its ids.
    async fn merge(&mut self, kept: ContactId, gone: ContactId) -> Result<()> {
        self.touch(kept).await?;
        self.touch(gone).await?;
        self.merges.push((gone, kept));
        let (kept, gone) = (kept.to_string(), gone.to_string());
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
        self.touch(id).await?;
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

    async fn mark_met(&mut self, id: ContactId) -> Result<()> {
        sqlx::query("UPDATE contact SET met = 1 WHERE instance = ? AND id = ?")
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
        let nothing = Before {
            row: None,
            met: false,
        };
        self.touched.insert(id, nothing);
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
        self.by(
            with_columns!(
                "SELECT",
                "FROM contact WHERE instance = ?1 AND id = coalesce(\
                 (SELECT id FROM contact_alias WHERE instance = ?1 AND old_id = ?2), ?2)"
            ),
            &id.to_string(),
        )
        .await
    }

    async fn by_lid(&mut self, lid: &str) -> Result<Option<ContactRow>> {
        self.by(
            with_columns!(
                "SELECT",
                "FROM contact WHERE instance = ? AND lid = ? AND lid <> ''"
            ),
            lid,
        )
        .await
    }

    async fn by_number(&mut self, number: &str) -> Result<Option<ContactRow>> {
        self.by(
            with_columns!(
                "SELECT",
                "FROM contact WHERE instance = ? AND phone_number = ? AND phone_number <> ''"
            ),
            number,
        )
        .await
    }

    /// Looks a contact up by a name.
    async fn by(&mut self, statement: &'static str, name: &str) -> Result<Option<ContactRow>> {
        let row = sqlx::query(statement)
            .bind(self.instance.0)
            .bind(name)
            .fetch_optional(&mut *self.connection)
            .await?;
        row.as_ref().map(contact_of).transpose()
    }
}

/// Whether two states of a contact look the same to a caller.
fn shows_same(one: &ContactRow, other: &ContactRow) -> bool {
    let shown = |row: &ContactRow| (row.lid.clone(), row.phone_number.clone(), row.name.clone());
    shown(one) == shown(other)
}
