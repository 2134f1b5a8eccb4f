//! The archive in a store that speaks S3.

use dialtone_persist::archive::{Archive, Location};
use dialtone_testkit::s3::{REGION, S3};

use super::site::{Site, archiver};

#[tokio::test]
async fn a_log_goes_to_s3_and_comes_back() {
    let server = S3::start();
    server.bucket("archive");
    let location = Location::S3 {
        bucket: "archive".to_owned(),
        prefix: "site/n1".to_owned(),
        endpoint: Some(server.endpoint()),
        region: Some(REGION.to_owned()),
        keys: Some(("test".to_owned(), "test".to_owned())),
    };
    let archive = Archive::open(&location).unwrap();
    let mut site = Site::new();
    let mut uploader = archiver(&archive, &site.log);
    for round in 0..3 {
        for number in 0..30 {
            site.append(
                "s",
                Some(&format!("k{}", number % 20)),
                vec![round * 30 + number; 700],
            )
            .await;
        }
        site.compact().await;
        uploader.pass().await.unwrap();
    }
    assert_eq!(archive.generations().await.unwrap(), [1, 2, 3]);
    let (restored, _) = Site::restored(&archive, None).await.unwrap();
    assert_eq!(restored.contents().await, site.contents().await);
    // Whoever comes later with the same number is refused by the store itself.
    let mut late = archiver(&archive, &site.log);
    late.pass().await.unwrap();
    site.append("s", None, vec![1]).await;
    uploader.pass().await.unwrap();
    site.append("s", None, vec![2]).await;
    late.pass().await.unwrap_err();
}
