//! The API inside a web application of your own: our router beside your routes.
//!
//! ```text
//! cargo run --release --example own_server
//! ```
//! serves `/hello` of its own and all of ours under the same address, asks itself one question as a
//! client would, and ends. With `--stay` it runs until Ctrl-C.

use lightglm::server::axum::{Router, routing::get};
use lightglm::{DEFAULT_MODEL, LoadOptions, Model, Server, ServerOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Loading blocks, and this program has nothing else to do meanwhile.
    let options = LoadOptions { max_context: Some(1024), ..LoadOptions::default() };
    let model = Model::open(DEFAULT_MODEL, options)?;
    let server = Server::new(model, ServerOptions { max_running: 4, ..Default::default() })?;

    // An axum router like any other: nest it, put layers of your own around it, merge it.
    let app =
        Router::new().route("/hello", get(|| async { "a page of our own" })).merge(server.router());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    println!("{address}");
    let serving = tokio::spawn(async move { lightglm::server::axum::serve(listener, app).await });

    // A client: any that speaks OpenAI's API.
    let client = reqwest::Client::new();
    let models: Value = client.get(format!("{address}/v1/models")).send().await?.json().await?;
    let question = json!({
        "model": models["data"][0]["id"],
        "messages": [{ "role": "user", "content": "Say hello." }],
        "max_tokens": 16,
    });
    println!("{}", client.get(format!("{address}/hello")).send().await?.text().await?);
    let reply =
        client.post(format!("{address}/v1/chat/completions")).json(&question).send().await?;
    let reply: Value = reply.error_for_status()?.json().await?;
    println!("{}", reply["choices"][0]["message"]["content"].as_str().unwrap_or_default());

    if std::env::args().any(|argument| argument == "--stay") {
        tokio::signal::ctrl_c().await?;
    }
    serving.abort();
    Ok(())
}
