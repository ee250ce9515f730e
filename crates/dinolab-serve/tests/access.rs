//! Who may ask, and what is never answered.

mod common;

use std::fs;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use common::{Runs, get, local, page, send};
use dinolab_serve::{Error, Server, ViewRequest, router};

#[tokio::test]
async fn files_outside_of_what_is_listed_are_refused() {
    let runs = Runs::new();
    let root = runs.add("a", 0.1, 1);
    fs::create_dir(root.join("pictures")).unwrap();
    fs::write(root.join("pictures/attention-epoch-0003.png"), "picture").unwrap();
    fs::write(root.join("pictures/attention-epoch-3.txt"), "secret").unwrap();
    fs::write(runs.path("secret.png"), "secret").unwrap();
    let page = page(&[root]);
    let listed = get(&page, "/api/runs/0/pictures").await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["epochs"], 3);
    let picture = get(&page, "/api/runs/0/pictures/attention-epoch-0003.png").await;
    assert_eq!(picture.text(), "picture");
    for path in [
        "/api/runs/0/pictures/..%2Fconfig.toml",
        "/api/runs/0/pictures/../config.toml",
        "/api/runs/0/pictures/..%2F..%2Fsecret.png",
        "/api/runs/0/pictures/attention-epoch-3.txt",
        "/api/runs/0/attention?checkpoint=..%2Fconfig.toml&image=0",
        "/api/runs/1/pictures",
        "/page/..%2Ferror.rs",
        "/page/%2Fetc%2Fpasswd",
        "/../config.toml",
        "/config.toml",
    ] {
        let answer = get(&page, path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!answer.text().contains("secret") && !answer.text().contains("shapes"));
    }
    for path in [
        "/api/runs/x/pictures",
        "/api/runs/0/map/images/-1",
        "/api/runs/0/attention",
    ] {
        assert_eq!(
            get(&page, path).await.status,
            StatusCode::BAD_REQUEST,
            "{path}"
        );
    }
    assert_eq!(
        get(&page, "/api/runs/0/map/points").await.status,
        StatusCode::CONFLICT
    );
}

fn with_header(path: &str, name: &str, value: &str) -> Request<Body> {
    let request = Request::builder().uri(path).header("host", "10.0.0.1:8642");
    request.header(name, value).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_page_for_other_machines_demands_its_token() {
    let runs = Runs::new();
    let roots = [runs.add("a", 0.1, 1)];
    let request = ViewRequest {
        runs: &roots,
        ..ViewRequest::default()
    };
    let page = router(&request, Some("0123abcd")).unwrap();
    for path in [
        "/",
        "/api/runs",
        "/page/app.js",
        "/?token=",
        "/?token=0123abce",
        "/?token=0123abcd0",
    ] {
        assert_eq!(
            get(&page, path).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    let wrong = with_header("/", "cookie", "dinolab-view=0123abc");
    assert_eq!(send(&page, wrong).await.status, StatusCode::FORBIDDEN);
    let admitted = get(&page, "/?token=0123abcd").await;
    assert_eq!(admitted.status, StatusCode::SEE_OTHER);
    assert_eq!(admitted.headers["location"], "/");
    let cookie = admitted.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    let pair = cookie.split(';').next().unwrap();
    let again = with_header("/api/runs", "cookie", &format!("other=1; {pair}"));
    assert_eq!(send(&page, again).await.status, StatusCode::OK);
    let elsewhere = get(&page, "//elsewhere.org/?token=0123abcd&x=1").await;
    assert_eq!(elsewhere.headers["location"], "/elsewhere.org/?x=1");
}

#[tokio::test]
async fn other_pages_cannot_have_a_browser_ask() {
    let runs = Runs::new();
    let page = page(&[runs.add("a", 0.1, 1)]);
    let host = |host: &str| {
        let request = Request::builder().uri("/").header("host", host);
        request.body(Body::empty()).unwrap()
    };
    for good in [
        "127.0.0.1:8642",
        "localhost:8642",
        "[::1]:8642",
        "localhost",
    ] {
        assert_eq!(
            send(&page, host(good)).await.status,
            StatusCode::OK,
            "{good}"
        );
    }
    for bad in ["elsewhere.org", "127.0.0.1.elsewhere.org:8642", "10.0.0.1"] {
        assert_eq!(
            send(&page, host(bad)).await.status,
            StatusCode::FORBIDDEN,
            "{bad}"
        );
    }
    let post = |origin: &str| {
        let mut request = local("POST", "/api/runs/0/map");
        request
            .headers_mut()
            .insert("origin", origin.parse().unwrap());
        request
    };
    let foreign = send(&page, post("https://elsewhere.org")).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    let own = send(&page, post("http://127.0.0.1:8642")).await;
    assert_eq!(own.status, StatusCode::OK);
}

#[tokio::test]
async fn the_page_is_whole_and_loads_nothing_from_elsewhere() {
    let runs = Runs::new();
    let page = page(&[runs.add("a", 0.1, 1)]);
    let index = get(&page, "/").await;
    let policy = index.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'self'"), "{policy}");
    assert_eq!(index.headers["x-content-type-options"], "nosniff");
    let mut wanted = vec![index.text()];
    let mut seen = Vec::new();
    while let Some(text) = wanted.pop() {
        let plain = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!plain.contains("http://") && !plain.contains("https://"));
        for quoted in text.split('"').skip(1).step_by(2) {
            let name = quoted.strip_prefix("/page/").or(quoted.strip_prefix("./"));
            let Some(name) = name.filter(|name| !seen.contains(&(*name).to_owned())) else {
                continue;
            };
            let file = get(&page, &format!("/page/{name}")).await;
            assert_eq!(file.status, StatusCode::OK, "{name}");
            seen.push(name.to_owned());
            wanted.push(file.text());
        }
    }
    assert!(seen.len() >= 12, "{seen:?}");
}

#[test]
fn runs_and_addresses_are_checked_before_anything_is_served() {
    let runs = Runs::new();
    let run = runs.add("a", 0.1, 1);
    let roots = [run.clone(), runs.path("none")];
    let request = |runs| ViewRequest {
        runs,
        port: Some(0),
        ..ViewRequest::default()
    };
    assert!(matches!(
        Server::open(&request(&roots)),
        Err(Error::NotARun { .. })
    ));
    assert!(matches!(Server::open(&request(&[])), Err(Error::NoRun)));
    let server = Server::open(&request(&roots[..1])).unwrap();
    let port: u16 = server
        .url()
        .trim_end_matches('/')
        .rsplit_once(':')
        .unwrap()
        .1
        .parse()
        .unwrap();
    assert!(server.url().starts_with("http://127.0.0.1:"));
    let taken = ViewRequest {
        port: Some(port),
        ..request(&roots[..1])
    };
    assert!(matches!(Server::open(&taken), Err(Error::Listen { .. })));
    let open = ViewRequest {
        host: Some("127.0.0.1".parse().unwrap()),
        ..request(&roots[..1])
    };
    let [a, b] = [0, 1].map(|_| Server::open(&open).unwrap().url().to_owned());
    let token = |url: &str| url.split_once("?token=").unwrap().1.to_owned();
    assert_eq!(token(&a).len(), 32);
    assert_ne!(token(&a), token(&b));
}
