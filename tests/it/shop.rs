//! The sample shop.

use pgate::demo::shop;

use crate::harness;

#[tokio::test]
async fn the_shop_has_personal_data_of_many_types_and_is_the_same_at_every_run() {
    let cluster = harness::cluster().await;
    shop::create(cluster, "shop_one").await.unwrap();
    shop::create(cluster, "shop_two").await.unwrap();
    let count = cluster.psql("shop_one", "SELECT count(*) FROM shop.customers").await.unwrap();
    assert_eq!(count, format!("{}\n", shop::CUSTOMERS));

    let types = "SELECT DISTINCT format_type(atttypid, NULL) FROM pg_attribute \
                 JOIN pg_class ON pg_class.oid = attrelid \
                 WHERE relnamespace = 'shop'::regnamespace AND attnum > 0";
    let types = cluster.psql("shop_one", types).await.unwrap();
    for wanted in
        ["text", "character varying", "date", "numeric", "jsonb", "uuid", "inet", "text[]"]
    {
        assert!(types.lines().any(|line| line == wanted), "{wanted} is not among {types}");
    }

    let content = "SELECT md5(string_agg(t::text, '|' ORDER BY t.id)) FROM shop.customers t; \
                   SELECT md5(string_agg(t::text, '|' ORDER BY t.id)) FROM shop.payments t; \
                   SELECT md5(string_agg(t::text, '|' ORDER BY visited_at)) FROM shop.visits t";
    let (one, two) =
        (cluster.psql("shop_one", content).await.unwrap(), cluster.psql("shop_two", content).await);
    assert_eq!(one, two.unwrap());
}
