//! A mail server that takes what it is sent, or refuses every recipient. Must never be more polite than a real one.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// A running server. Ends when dropped.
pub struct MailServer {
    pub url: String,
    taken: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl MailServer {
    /// `refusal` is said to every `RCPT TO`; the address is quoted behind it.
    pub async fn start(refusal: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&taken);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(talk(socket, refusal, Arc::clone(&kept)));
            }
        });
        Self { url, taken, _task: AbortOnDropHandle::new(task) }
    }

    pub fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

async fn talk(socket: TcpStream, refusal: Option<&'static str>, taken: Arc<Mutex<Vec<String>>>) {
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 test ESMTP\r\n").await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match (word.as_str(), refusal) {
            ("RCPT", Some(refusal)) => format!("{refusal} {line}"),
            ("DATA", _) => {
                write.write_all(b"354 go on\r\n").await.unwrap();
                let mut mail = String::new();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line == "." {
                        break;
                    }
                    mail.push_str(line.strip_prefix('.').unwrap_or(&line));
                    mail.push_str("\r\n");
                }
                taken.lock().unwrap().push(mail);
                "250 taken".to_owned()
            }
            ("QUIT", _) => return,
            _ => "250 ok".to_owned(),
        };
        if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
}
