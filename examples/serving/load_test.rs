//! Puts a server under load: throughput, time to the first token, time from token to token.
//!
//! ```text
//! cargo run --release --example load_test -- --clients 16 --requests 64
//! cargo run --release --example load_test -- --url http://127.0.0.1:8080 --rate 5 --plot load.svg
//! ```
//! With `--clients` each client asks again as soon as it is answered (a closed loop: the server sets the
//! pace); with `--rate` requests come when they come (an open loop, a Poisson process: a server that is
//! too slow builds up a queue). Without `--url` it serves the embedded model itself, on a free port of
//! the loopback. Every server with OpenAI's `/v1/completions` will do; replies are `--max-tokens` long
//! where it knows `ignore_eos`. Ctrl-C ends early and sums up what there is.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm::write_whole;
use lightglm_examples::{exit, stop_on_ctrl_c};
use lightglm_serving_examples::load::{Arrivals, Client, Prompts, Summary, run as load, svg};
use lightglm_serving_examples::serve_args::ServeArgs;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

#[derive(Parser)]
#[command(about = "Put a server under load")]
struct Args {
    /// The server (http); one of this program's own if omitted.
    #[arg(long, conflicts_with_all = ["model", "scheme", "policy", "dtype", "threads"])]
    url: Option<String>,
    /// The model to ask for.
    #[arg(long)]
    ask_for: Option<String>,
    /// The key to send.
    #[arg(long, env = "LIGHTGLM_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Clients that ask again as soon as they are answered.
    #[arg(long, default_value_t = 16, conflicts_with = "rate")]
    clients: usize,
    /// Requests a second, whether or not the others have been answered.
    #[arg(long)]
    rate: Option<f64>,
    /// Requests in all.
    #[arg(long, default_value_t = 64)]
    requests: u64,
    /// Requests before these, which are not counted.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Words of a prompt: about as many tokens.
    #[arg(long, default_value_t = 64)]
    prompt_words: usize,
    /// Words that all prompts begin with.
    #[arg(long, default_value_t = 0)]
    shared_words: usize,
    /// Tokens of a reply.
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    /// Share of the clients that hang up on the way.
    #[arg(long, default_value_t = 0.0)]
    hang_up: f64,
    /// Seconds within which they do.
    #[arg(long, default_value_t = 1.0)]
    patience: f64,
    /// Decides the prompts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Draw the distribution of latencies into this file (SVG).
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    ensure!((0.0..=1.0).contains(&args.hang_up), "--hang-up must be between 0 and 1");
    ensure!(args.patience.is_finite() && args.patience > 0.0, "--patience must be above 0");
    ensure!(args.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()), "--rate must be above 0");
    ensure!(args.clients > 0 && args.requests > 0, "--clients and --requests must be at least 1");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(url) = &args.url {
        return runtime.block_on(measure(&args, url));
    }
    let server = args.serve.start(args.serve.options())?.server;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (end, ended) = oneshot::channel::<()>();
        let shutdown = async {
            // Dropped or sent: both are the end.
            let _ = ended.await;
        };
        let serving = server.serve_on(listener, shutdown);
        let measuring = async {
            let result = measure(&args, &url).await;
            drop(end);
            result
        };
        let (served, measured) = tokio::join!(serving, measuring);
        served?;
        measured
    })
}

async fn measure(args: &Args, url: &str) -> Result<()> {
    let client = Client::new(url, args.ask_for.clone(), args.api_key.clone(), args.max_tokens)?;
    let arrivals = match args.rate {
        Some(per_second) => Arrivals::Open { per_second },
        None => Arrivals::Closed { clients: args.clients },
    };
    let stop = stop_on_ctrl_c()?;
    let hang_up = (args.hang_up, Duration::from_secs_f64(args.patience));
    if args.warm_up > 0 {
        let prompts = Prompts::new(args.prompt_words, args.shared_words, !args.seed);
        let few = Arrivals::Closed { clients: 1 };
        let hidden = ProgressBar::hidden();
        load(&client, &prompts, args.warm_up, few, (0.0, hang_up.1), &stop, &hidden).await;
    }
    let style = "{bar:30} {pos}/{len} requests, {per_sec}, {eta} left";
    let bar = match args.json {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(args.requests).with_style(ProgressStyle::with_template(style)?),
    };
    let prompts = Prompts::new(args.prompt_words, args.shared_words, args.seed);
    let (outcomes, took) =
        load(&client, &prompts, args.requests, arrivals, hang_up, &stop, &bar).await;
    bar.finish_and_clear();
    let summary = Summary::of(&outcomes, took);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print!("{summary}");
    }
    if let Some(file) = &args.plot {
        let title = match arrivals {
            Arrivals::Closed { clients } => format!("{clients} clients"),
            Arrivals::Open { per_second } => format!("{per_second} requests a second"),
        };
        write_whole(file, svg(&title, &outcomes)?.as_bytes())?;
    }
    ensure!(summary.answered > 0, "no request was answered");
    Ok(())
}
