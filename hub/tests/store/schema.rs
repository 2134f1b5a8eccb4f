//! The tables: made once, whoever is first, and the same on both databases.

use std::collections::BTreeSet;

use dialtone_hub::store::{Store, migrate};

use crate::{Site, on_both, unusable};

on_both! {
    everything_is_made_once_however_many_hubs_start,
    what_is_still_to_be_made_is_told,
    a_changed_migration_is_refused,
    tables_of_a_newer_version_are_refused,
}

async fn everything_is_made_once_however_many_hubs_start(site: Site) {
    let opened = (0..6).map(|_| Store::open(site.config()));
    let stores = futures_util::future::join_all(opened).await;
    for store in stores {
        let status = migrate::status(&mut store.unwrap().read().await.unwrap())
            .await
            .unwrap();
        assert!(status.len() >= 3);
        assert!(status.iter().all(|one| one.applied_at.is_some()));
    }
    let versions =
        site.beside("SELECT CAST(version AS text) FROM schema_migrations ORDER BY version");
    assert_eq!(versions.await[..3], ["1", "2", "3"]);
}

async fn what_is_still_to_be_made_is_told(site: Site) {
    let store = Store::attach(site.config()).await.unwrap();
    let status = migrate::status(&mut store.read().await.unwrap())
        .await
        .unwrap();
    assert!(status.iter().all(|one| one.applied_at.is_none()));
    site.open().await;
    let status = migrate::status(&mut store.read().await.unwrap())
        .await
        .unwrap();
    assert!(status.iter().all(|one| one.applied_at.is_some()));
}

async fn a_changed_migration_is_refused(site: Site) {
    site.open().await.close().await;
    site.beside("UPDATE schema_migrations SET checksum = 'other' WHERE version = 2")
        .await;
    let text = unusable(Store::open(site.config()).await);
    assert_eq!(
        text,
        "its migration 2 (0002_accounts) is not that of this program"
    );
}

async fn tables_of_a_newer_version_are_refused(site: Site) {
    site.open().await.close().await;
    site.beside("INSERT INTO schema_migrations SELECT 9999, '9999_future', checksum, applied_at FROM schema_migrations WHERE version = 1")
        .await;
    let text = unusable(Store::open(site.config()).await);
    assert_eq!(
        text,
        "its tables are of a newer version of this program (they have 9999_future)"
    );
}

/// Table, column, kind, whether NULL is allowed.
async fn columns(site: &Site, statement: &'static str) -> BTreeSet<String> {
    site.open().await.close().await;
    site.beside(statement).await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_have_the_same_columns() {
    let postgres = columns(
        &Site::postgres(),
        "SELECT table_name || '.' || column_name || ' ' || CASE data_type
                WHEN 'uuid' THEN 'TEXT' WHEN 'text' THEN 'TEXT' WHEN 'jsonb' THEN 'TEXT'
                WHEN 'bigint' THEN 'INTEGER' WHEN 'boolean' THEN 'INTEGER'
                WHEN 'timestamp with time zone' THEN 'INTEGER' WHEN 'bytea' THEN 'BLOB' ELSE data_type END
                || CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END
           FROM information_schema.columns WHERE table_schema = 'dialtone_hub'",
    )
    .await;
    let sqlite = columns(
        &Site::sqlite(),
        "SELECT t.name || '.' || c.name || ' ' || c.type || CASE WHEN c.\"notnull\" OR c.pk THEN ' NOT NULL' ELSE '' END
           FROM sqlite_schema t JOIN pragma_table_info(t.name) c
          WHERE t.type IN ('table', 'view') AND t.name NOT LIKE 'sqlite_%'",
    )
    .await;
    assert!(postgres.len() > 100, "{}", postgres.len());
    let differ: Vec<_> = postgres.symmetric_difference(&sqlite).collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_have_the_same_indexes() {
    let postgres = columns(
        &Site::postgres(),
        "SELECT tablename || ' ' || indexname || CASE WHEN indexdef LIKE '%UNIQUE%' THEN ' unique' ELSE '' END
           FROM pg_indexes WHERE schemaname = 'dialtone_hub' AND indexname NOT LIKE '%_pkey'",
    )
    .await;
    let sqlite = columns(
        &Site::sqlite(),
        "SELECT t.name || ' ' || i.name || CASE WHEN i.\"unique\" THEN ' unique' ELSE '' END
           FROM sqlite_schema t JOIN pragma_index_list(t.name) i
          WHERE t.type = 'table' AND i.origin = 'c'",
    )
    .await;
    assert!(postgres.len() > 30, "{}", postgres.len());
    let differ: Vec<_> = postgres.symmetric_difference(&sqlite).collect();
    assert!(differ.is_empty(), "{differ:#?}");
}
