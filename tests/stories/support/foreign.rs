//! Clients that are not ours, as children that speak JSON lines; what they say is in tests/foreign/README.md.
//!
//! Owns their installation, too. Knows nothing of what the stories prove.

use std::{
    collections::VecDeque,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::OnceCell,
};
use wagate::sandbox::Sandbox;

use super::within;

/// How long an installation or a first build may take on a slow machine.
const INSTALLATION: Duration = Duration::from_secs(600);

/// The oldest Node that Baileys runs on.
const NODE: u32 = 20;

/// Lines of a client's log that a failing story shows.
const LOG_LINES: usize = 60;

/// A library of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    Baileys,
    Whatsmeow,
}

impl Library {
    /// Installs the program around the library. `None`, said aloud, on a machine that lacks what it runs on,
    /// unless WAGATE_FOREIGN=required forbids that.
    pub async fn install(self) -> Option<Program> {
        static BAILEYS: OnceCell<Installed> = OnceCell::const_new();
        static WHATSMEOW: OnceCell<Installed> = OnceCell::const_new();
        let installed = match self {
            Self::Baileys => BAILEYS.get_or_init(install_baileys).await,
            Self::Whatsmeow => WHATSMEOW.get_or_init(|| build("whatsmeow")).await,
        };
        unless_missing(&format!("{self:?}"), installed)
    }
}

/// The same for the server of a bucket.
pub async fn install_bucket() -> Option<Program> {
    static BUCKET: OnceCell<Installed> = OnceCell::const_new();
    unless_missing("a bucket", BUCKET.get_or_init(|| build("bucket")).await)
}

/// A program, or what the machine lacks for it.
type Installed = Result<Program, String>;

fn unless_missing(what: &str, installed: &Installed) -> Option<Program> {
    match installed {
        Ok(program) => Some(program.clone()),
        Err(missing) if std::env::var_os("WAGATE_FOREIGN").is_some_and(|v| v == "required") => {
            panic!("{missing}, and WAGATE_FOREIGN=required")
        }
        Err(missing) => {
            // The harness keeps what passing tests print, but not this.
            let _ = writeln!(
                std::io::stderr(),
                "\n!! SKIPPED, a story with {what}: {missing}"
            );
            None
        }
    }
}

/// Found when it runs, not when it is compiled: build results that are kept between runs may come from
/// another checkout, which need not be there any more.
fn folder(name: &str) -> PathBuf {
    let checkout = std::env::current_dir().unwrap();
    checkout.join("tests").join("foreign").join(name)
}

async fn install_baileys() -> Installed {
    let node = version("node", "--version").await?;
    let major = node.trim_start_matches('v').split('.').next();
    let major: u32 = major.and_then(|major| major.parse().ok()).unwrap_or(0);
    if major < NODE {
        return Err(format!("Node is {node}, {NODE} is needed"));
    }
    version("npm", "--version").await?;
    let folder = folder("baileys");
    let lock = std::fs::read(folder.join("package-lock.json")).unwrap();
    let installed = folder.join("node_modules").join(".installed-lock.json");
    if std::fs::read(&installed).ok().as_ref() != Some(&lock) {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--omit=optional", "--omit=peer", "--ignore-scripts"])
            .args(["--prefer-offline", "--no-audit", "--no-fund"])
            .current_dir(&folder);
        finished("npm ci", npm).await;
        std::fs::write(&installed, &lock).unwrap();
    }
    let script = folder.join("client.mjs");
    Ok(Program(vec!["node".into(), script]))
}

/// Builds the program of a folder that is written in Go.
async fn build(name: &str) -> Installed {
    version("go", "version").await?;
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("foreign-{name}"));
    let mut go = Command::new("go");
    go.args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(".")
        .env("CGO_ENABLED", "0")
        .current_dir(folder(name));
    finished("go build", go).await;
    Ok(Program(vec![program]))
}

/// What a tool says of its version, or that it is missing.
async fn version(tool: &str, question: &str) -> Result<String, String> {
    let answer = Command::new(tool).arg(question).output().await;
    match answer {
        Ok(answer) if answer.status.success() => {
            Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
        }
        _ => Err(format!("{tool} is not installed")),
    }
}

async fn finished(what: &str, mut command: Command) {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(INSTALLATION, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{what} takes too long"));
    let output = output.unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what} failed: {log}");
}

/// An installed client: a program and its first arguments.
#[derive(Clone, Debug)]
pub struct Program(Vec<PathBuf>);

impl Program {
    /// Starts a client on a network, with what it remembers in a folder.
    pub fn start(&self, network: &Sandbox, store: &Path) -> ForeignClient {
        self.start_trusting(network.root_key(), network, store)
    }

    /// The same with a root of the certificate chain that may be a wrong one.
    pub fn start_trusting(&self, root: [u8; 32], network: &Sandbox, store: &Path) -> ForeignClient {
        let mut command = self.command();
        command
            .args(["--address", &network.address().to_string()])
            .args(["--root", &hex::encode(root)])
            .arg("--store")
            .arg(store);
        ForeignClient::spawn(command)
    }

    /// Starts a bucket of this name, which this key opens; with it the address of its server.
    pub async fn serve_bucket(
        &self,
        name: &str,
        key: &str,
        secret: &str,
    ) -> (ForeignClient, String) {
        let mut command = self.command();
        command
            .args(["--bucket", name])
            .args(["--key", key, "--secret", secret]);
        let mut server = ForeignClient::spawn(command);
        let listening = server.until("listening", |_| true).await;
        let address = listening["address"].as_str().unwrap();
        (server, format!("http://{address}"))
    }

    fn command(&self) -> Command {
        let (program, first) = self.0.split_first().expect("a program has a name");
        let mut command = Command::new(program);
        command.args(first);
        command
    }
}

/// A client that runs.
pub struct ForeignClient {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
    /// What it said that no story has asked for yet.
    waiting: Vec<Value>,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl ForeignClient {
    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().unwrap();
                if kept.len() == LOG_LINES {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
            waiting: Vec::new(),
            log,
        }
    }

    /// Takes the first event of a kind for which `wanted` holds; others stay.
    pub async fn until(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_one_of(&[kind], wanted).await
    }

    async fn until_one_of(&mut self, kinds: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let fits =
            |event: &Value| kinds.iter().any(|kind| event["event"] == *kind) && wanted(event);
        let search = async {
            if let Some(at) = self.waiting.iter().position(fits) {
                return Some(self.waiting.remove(at));
            }
            while let Ok(Some(line)) = self.stdout.next_line().await {
                // Libraries below a client write their own remarks there, too.
                let Ok(event) = serde_json::from_str::<Value>(&line) else {
                    self.log.lock().unwrap().push_back(line);
                    continue;
                };
                if fits(&event) {
                    return Some(event);
                }
                self.waiting.push(event);
            }
            None
        };
        let found = tokio::time::timeout(super::BUDGET, search).await;
        found
            .ok()
            .flatten()
            .unwrap_or_else(|| self.give_up(&format!("waited for {kinds:?}")))
    }

    fn give_up(&self, what: &str) -> ! {
        let log = self.log.lock().unwrap();
        let log: Vec<&str> = log.iter().map(String::as_str).collect();
        panic!(
            "{what}; it said {:?} and its log ends with\n{}",
            self.waiting,
            log.join("\n")
        )
    }

    /// The text of its QR code.
    pub async fn qr(&mut self) -> String {
        let event = self.until("qr", |_| true).await;
        event["code"].as_str().unwrap().to_owned()
    }

    /// Of a bucket: lets every request fail with an HTTP status from now on, with 0 none. Answers with the
    /// names of its objects and how many uploads in parts are open.
    pub async fn bucket_fails(&mut self, status: u16) -> (Vec<String>, u64) {
        self.tell(json!({"fail": status})).await;
        let shown = self.until("shown", |_| true).await;
        let names = shown["objects"].as_array().unwrap().iter();
        let names = names.map(|name| name.as_str().unwrap().to_owned());
        (names.collect(), shown["open"].as_u64().unwrap())
    }

    /// Waits until it is logged in.
    pub async fn opened(&mut self) {
        self.until("open", |_| true).await;
    }

    async fn tell(&mut self, command: Value) {
        let stdin = self.stdin.as_mut().expect("its stdin is open");
        let line = format!("{command}\n");
        stdin.write_all(line.as_bytes()).await.unwrap();
    }

    /// Sends a text; answers with its id once the network has it.
    pub async fn send(&mut self, to: &str, text: &str) -> String {
        self.send_answering(to, text, &[], None).await
    }

    /// The same with JIDs that are mentioned and a message that is quoted.
    pub async fn send_answering(
        &mut self,
        to: &str,
        text: &str,
        mentions: &[String],
        quotes: Option<&str>,
    ) -> String {
        let message = json!({"to": to, "text": text, "mentions": mentions, "quotes": quotes});
        self.tell(json!({"send": message})).await;
        let event = self.until("sent", |event| event["text"] == text).await;
        event["id"].as_str().unwrap().to_owned()
    }

    /// Says something that is no text; answers with its id once the network has it.
    pub async fn say(&mut self, to: &str, kind: &str, mut what: Value) -> String {
        what["to"] = to.into();
        what["kind"] = kind.into();
        self.tell(json!({"say": what})).await;
        let search = |event: &Value| event["kind"] == kind;
        let said = self.until_one_of(&["sent", "failed"], search).await;
        assert_eq!(said["event"], "sent", "{said}");
        said["id"].as_str().unwrap().to_owned()
    }

    /// Waits for something of this kind that is no text, with these fields.
    pub async fn until_content(&mut self, kind: &str, fields: Value) -> Value {
        let fields = fields.as_object().unwrap();
        let wanted = |event: &Value| {
            let has = |(name, value): (&String, &Value)| event[name] == *value;
            event["kind"] == kind && fields.iter().all(has)
        };
        self.until("content", wanted).await
    }

    /// Does something with a group: what came of it, or WhatsApp's code for why nothing did.
    pub async fn act(&mut self, what: &str, mut how: Value) -> Result<Value, u64> {
        how["do"] = what.into();
        self.tell(json!({"group": how})).await;
        let search = |event: &Value| event["do"] == what;
        let done = self.until_one_of(&["done", "refused"], search).await;
        if done["event"] == "done" {
            Ok(done)
        } else {
            Err(done["code"].as_u64().unwrap_or_default())
        }
    }

    /// Waits for a change of a group.
    pub async fn until_change(&mut self, group: &str, what: &str) -> Value {
        let wanted = |event: &Value| event["group"] == group && event["what"] == what;
        self.until("group", wanted).await
    }

    /// Waits until it has heard this of a call.
    pub async fn until_call(&mut self, id: &str, what: &str) -> Value {
        let wanted = |event: &Value| event["id"] == id && event["what"] == what;
        self.until("call", wanted).await
    }

    /// Rejects a call that it has heard of.
    pub async fn reject_call(&mut self, id: &str) {
        self.tell(json!({"call": {"do": "reject", "id": id}})).await;
        self.until("done", |event| event["do"] == "reject" && event["id"] == id)
            .await;
    }

    /// Does something to a message for the account alone.
    pub async fn mark(&mut self, what: &str, id: &str, on: bool) {
        self.tell(json!({"mark": {"do": what, "id": id, "on": on}}))
            .await;
        let search = |event: &Value| event["do"] == what;
        let done = self.until_one_of(&["done", "refused"], search).await;
        assert_eq!(done["event"], "done", "{done}");
    }

    /// Waits until it has heard that another device of its account did this to a message.
    pub async fn until_mark(&mut self, id: &str, what: &str) {
        self.until("mark", |event| event["id"] == id && event["what"] == what)
            .await;
    }

    /// Waits for a text and says whose it is.
    pub async fn until_text(&mut self, text: &str) -> Sender {
        let event = self.until("message", |event| event["text"] == text).await;
        if event["from_me"] == true {
            Sender::Itself
        } else {
            Sender::Number(event["from"].as_str().unwrap_or_default().to_owned())
        }
    }

    /// Waits until a text of its own has arrived.
    pub async fn until_delivered(&mut self, id: &str) {
        self.until("receipt", |event| {
            event["id"] == id && event["kind"] == "delivered"
        })
        .await;
    }

    /// The texts of others that it has told and that nobody has asked for.
    pub fn unexpected(&self) -> Vec<&Value> {
        let texts = self.waiting.iter();
        texts
            .filter(|event| event["event"] == "message" && event["from_me"] == false)
            .collect()
    }

    /// Lets it leave in peace.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        let status = self.ended().await;
        if !status.success() {
            self.give_up("it ended badly");
        }
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        within("a client's end", self.child.wait()).await.unwrap()
    }

    /// Waits for a line in its log.
    pub async fn until_log(&self, part: &str) {
        within(part, async {
            while !self
                .log
                .lock()
                .unwrap()
                .iter()
                .any(|line| line.contains(part))
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Ends it without a word.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Who wrote what a client was told.
#[derive(Debug, PartialEq, Eq)]
pub enum Sender {
    /// The account itself, on another device.
    Itself,
    /// Somebody else.
    Number(String),
}
