//! A real browser without a screen, driven over two pipes by its DevTools protocol.

use super::supervised::PATIENCE;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// One page of a browser.
pub struct Browser {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Value>,
    session: Option<String>,
    number: u64,
    /// What pages wrote to their consoles as errors or warnings, exceptions, and what could not be loaded.
    pub complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The browser's program, where there is one.
pub fn program() -> Option<&'static str> {
    let runs = |name: &&&str| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"].iter().find(runs).copied()
}

impl Browser {
    pub fn start(program: &str) -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        // The protocol is spoken on descriptors 3 and 4.
        let script = format!(
            "exec {program} --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --no-first-run \
             --user-data-dir={} --remote-debugging-pipe about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1",
            profile.path().display()
        );
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a browser");
        let (orders, said) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(said).split(0).map_while(Result::ok) {
                if let Ok(message) = serde_json::from_slice(&message)
                    && tell.send(message).is_err()
                {
                    return;
                }
            }
        });
        let complaints = Vec::new();
        let mut browser = Self { child, orders, answers, session: None, number: 0, complaints, _profile: profile };
        let target = browser.order("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.order("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.order(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    fn hear(&mut self, message: &Value) {
        let parameters = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(parameters["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled")
                if ["error", "warning", "assert"].iter().any(|kind| parameters["type"] == *kind) =>
            {
                self.complaints.push(parameters["args"].to_string());
            }
            Some("Log.entryAdded") if parameters["entry"]["level"] != "info" => {
                self.complaints.push(parameters["entry"].to_string())
            }
            _ => {}
        }
    }

    /// Has the browser do something, and waits for what comes of it.
    pub fn order(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut order = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        let mut bytes = order.to_string().into_bytes();
        bytes.push(0);
        self.orders.write_all(&bytes).expect("the browser listens");
        loop {
            let message = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == self.number {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.hear(&message);
        }
    }

    /// A screen of this size, in the dark or not, on a telephone or not.
    pub fn screen(&mut self, width: u32, height: u32, dark: bool, phone: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 }, "mobile": phone });
        self.order("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = json!([{ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } }]);
        self.order("Emulation.setEmulatedMedia", json!({ "features": scheme }));
    }

    pub fn open(&mut self, address: &str) {
        let opened = self.order("Page.navigate", json!({ "url": address }));
        assert!(opened["errorText"].is_null(), "{opened}");
    }

    /// What an expression of the page's script comes to.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.order("Runtime.evaluate", asked);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, expression: &str) {
        let since = Instant::now();
        // A page that is just being loaded has no scripts yet.
        let guarded =
            format!("(() => {{ try {{ return Boolean({expression}); }} catch (problem) {{ return false; }} }})()");
        while self.evaluate(&guarded) != true {
            assert!(
                since.elapsed() < PATIENCE,
                "{expression}: {}",
                self.evaluate("document.body && document.body.innerText")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.order("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key }));
        }
    }

    /// Writes what is shown to a file, as far down as the page goes.
    pub fn picture(&mut self, path: &Path) {
        let shot = self.order("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        let bytes = STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64");
        std::fs::write(path, bytes).expect("written");
    }
}
