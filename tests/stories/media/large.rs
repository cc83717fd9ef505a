//! A file of any size, from a caller to WhatsApp and from there to another instance and its caller, in little memory.
//!
//! WAGATE_LARGE_MIB sets its size; docs/performance.md tells what came of 2,048.

use wagate::proto::{
    sandbox_v1::{CreatePhoneRequest, ScanQrRequest},
    v1::{
        event::Payload, media_source::Source, pair_instance_response::Step,
        send_message_request::Content as Asked,
    },
};

use super::*;
use crate::support::{BUDGET, program};

/// What the process may take more than before, whatever the size, in KiB.
const MORE: u64 = 48 << 10;

/// How slow the slowest part may be, in MiB a second: without optimisation, on a busy machine.
const SLOWEST: u64 = 4;

fn size() -> u64 {
    let set = std::env::var("WAGATE_LARGE_MIB");
    set.map_or(64, |mebibytes| mebibytes.parse().expect("a number of MiB"))
}

async fn in_time<T>(what: &str, mebibytes: u64, future: impl Future<Output = T>) -> T {
    let budget = BUDGET + Duration::from_secs(mebibytes / SLOWEST);
    let done = tokio::time::timeout(budget, future).await;
    done.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// Memory of a process, in KiB: in use now, and the most that it ever had.
fn memory(id: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (value("VmRSS:"), value("VmHWM:"))
}

/// Forgets the most that a process ever had.
fn forget_most(id: u32) {
    std::fs::write(format!("/proc/{id}/clear_refs"), "5").unwrap();
}

/// A new instance with a phone of its own; the phone's number.
async fn paired(api: &Api, name: &str) -> String {
    let mut sandbox = api.sandbox();
    let created = sandbox.create_phone(CreatePhoneRequest::default()).await;
    let phone = created.unwrap().into_inner().phone.unwrap();
    api.create(name).await;
    let request = v1::PairInstanceRequest {
        instance: name.to_owned(),
        ..Default::default()
    };
    let steps = api.instances().pair_instance(request).await.unwrap();
    let mut steps = steps.into_inner();
    let mut scanned = false;
    while let Some(response) = within("a pairing step", steps.message()).await.unwrap() {
        if let (Some(Step::QrCode(code)), false) = (response.step, scanned) {
            let scan = ScanQrRequest {
                phone: phone.number.clone(),
                qr: code.text,
            };
            sandbox.scan_qr(scan).await.unwrap();
            scanned = true;
        }
    }
    let instance = api.instance(name).await;
    let mut watcher = Watcher::from_earliest(api).await;
    watcher
        .until_state(&instance.id, v1::InstanceState::Open)
        .await;
    phone.number
}

/// The file that passes: the same part so often.
struct Large {
    part: Vec<u8>,
    parts: u64,
    hash: Vec<u8>,
}

impl Large {
    fn of(mebibytes: u64) -> Self {
        let part = noise(CHUNK);
        let parts = (mebibytes << 20) / CHUNK as u64;
        let mut hash = Sha256::new();
        for _ in 0..parts {
            hash.update(&part);
        }
        Self {
            part,
            parts,
            hash: hash.finalize().to_vec(),
        }
    }

    fn mebibytes(&self) -> u64 {
        (self.parts * CHUNK as u64) >> 20
    }

    async fn upload(&self, api: &Api) -> v1::Media {
        let told = UploadMediaMetadata {
            size_bytes: self.parts * CHUNK as u64,
            sha256: self.hash.clone().into(),
            ..document("from")
        };
        let part = self.part.clone();
        let parts = (0..self.parts).map(move |_| chunk(&part));
        let parts = stream::iter([metadata(told)]).chain(stream::iter(parts));
        let uploaded = in_time("the upload", self.mebibytes(), async {
            api.media().upload_media(parts).await
        });
        uploaded.await.unwrap().into_inner().media.unwrap()
    }

    /// As a document; again while WhatsApp does not have all of it.
    async fn send(&self, api: &Api, media: &v1::Media, to: &str) -> String {
        let request = v1::SendMessageRequest {
            instance: "from".to_owned(),
            recipient: to.to_owned(),
            content: Some(Asked::Document(v1::DocumentContent {
                source: Some(v1::MediaSource {
                    source: Some(Source::MediaId(media.id.clone())),
                    ..Default::default()
                }),
                ..Default::default()
            })),
            request_id: media.id.clone(),
            ..Default::default()
        };
        let sent = in_time("the way to WhatsApp", 2 * self.mebibytes(), async {
            loop {
                match api.messages().send_message(request.clone()).await {
                    Ok(sent) => return sent.into_inner().message.unwrap().id,
                    Err(late) => assert_eq!(info(&late), "DEADLINE", "{late:?}"),
                }
            }
        });
        sent.await
    }

    async fn fetched(&self, watcher: &mut Watcher, to: &str) -> v1::Media {
        in_time("the way from WhatsApp", 2 * self.mebibytes(), async {
            loop {
                // A quiet stream has its heartbeats.
                let event = watcher.event().await.unwrap().expect("the stream goes on");
                if let Some(Payload::MediaUpdated(updated)) = event.payload
                    && event.instance == to
                {
                    let media = updated.media.unwrap();
                    // Anything else would be the end of it.
                    assert_eq!(media.state(), MediaState::Ready, "{media:?}");
                    return media;
                }
            }
        })
        .await
    }

    async fn download(&self, api: &Api, media: v1::Media) {
        let request = v1::DownloadMediaRequest {
            instance: media.instance_id,
            media_id: media.id,
            ..Default::default()
        };
        let parts = api.media().download_media(request).await.unwrap();
        let mut parts = parts.into_inner();
        let mut seen = Sha256::new();
        in_time("the download", self.mebibytes(), async {
            while let Some(response) = parts.message().await.unwrap() {
                if let Some(download_media_response::Part::Chunk(bytes)) = response.part {
                    seen.update(&bytes);
                }
            }
        })
        .await;
        assert_eq!(seen.finalize().to_vec(), self.hash);
    }
}

/// The whole way of a file. What each part of it takes more than was in use before is told, in KiB.
async fn pass(api: &Api, id: u32, to: &str, watcher: &mut Watcher, file: &Large) -> Vec<u64> {
    let (before, _) = memory(id);
    let mut more = Vec::new();
    let mut tell = |what: &str, begun: std::time::Instant| {
        let (now, most) = memory(id);
        let grown = most.saturating_sub(before);
        let (time, size) = (begun.elapsed().as_secs_f64(), file.mebibytes());
        println!(
            "{size} MiB {what}: {time:.1} s, at most {grown} KiB more than {before}, now {now}"
        );
        more.push(grown);
        forget_most(id);
        std::time::Instant::now()
    };
    forget_most(id);
    let begun = std::time::Instant::now();
    let media = file.upload(api).await;
    let begun = tell("uploaded", begun);
    file.send(api, &media, to).await;
    let begun = tell("left at WhatsApp and sent", begun);
    let receiver = api.instance("to").await.id;
    let media = file.fetched(watcher, &receiver).await;
    let begun = tell("fetched from WhatsApp", begun);
    assert_eq!(media.size_bytes, file.mebibytes() << 20);
    file.download(api, media).await;
    tell("downloaded", begun);
    more
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_follow_the_size_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = program::sandbox(folder.path(), &["--no-demo"]);
    let endpoint = program.remarks.until("gRPC").await;
    let endpoint = endpoint.split_whitespace().last().unwrap();
    let address = endpoint.trim_start_matches("http://").parse().unwrap();
    let key = program.remarks.until("API key").await;
    let key = key.split_whitespace().nth(2).unwrap().to_owned();
    let api = Api::connect(address, Some(&key)).await;
    let id = program.child.id().unwrap();
    paired(&api, "from").await;
    let to = paired(&api, "to").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    // What the first file costs is there to stay: buffers, pools, connections.
    pass(&api, id, &to, &mut watcher, &Large::of(8)).await;

    let more = pass(&api, id, &to, &mut watcher, &Large::of(size())).await;
    assert!(more.iter().all(|more| *more < MORE), "{more:?} KiB");
    program.terminate().await;
}
