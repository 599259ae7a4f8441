//! Settings → URLs of the queue and the databases that they name, as the command line takes them.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Origin, Settings};

impl Settings {
    /// The URL of the queue, where one is in use. A URL that the environment names is.
    pub fn queue(&self) -> Option<String> {
        let (_, origin) = self.get("mq.enabled");
        let is_named = matches!(self.get("mq.uri").1, Origin::Variable(_));
        let is_used = match origin {
            Origin::Variable(_) => self.is("mq.enabled"),
            _ if is_named => true,
            Origin::File(_) => self.is("mq.enabled"),
            // As for Flowcept.
            Origin::Default => self.has_queue_section,
        };
        is_used.then(|| self.queue_url())
    }

    fn queue_url(&self) -> String {
        if self.is("mq.same_as_kvdb") {
            return self.redis("kv_db");
        }
        if let Some(url) = self.text("mq.uri") {
            return url.into();
        }
        let (user, password) = (self.text("mq.username"), self.text("mq.password"));
        match self.text("mq.type") {
            Some("kafka") => {
                let user = password.map(|password| format!("{}:{}@", coded(user.unwrap_or("")), coded(password)));
                format!("kafka://{}{}", user.unwrap_or_default(), self.server("mq", 9092))
            }
            Some("rabbitmq") => {
                let [user, password] = [user, password].map(|text| coded(text.unwrap_or("guest")));
                let vhost = self.text("mq.vhost").filter(|name| *name != "/").map(coded).unwrap_or_default();
                format!("amqp://{user}:{password}@{}/{vhost}", self.server("mq", 5672))
            }
            _ => self.redis("mq"),
        }
    }

    /// The URLs of the databases that are in use.
    pub fn databases(&self) -> Vec<String> {
        let mut urls = Vec::new();
        if self.is("databases.lmdb.enabled") {
            urls.push(format!("lmdb:{}", self.text("databases.lmdb.path").unwrap_or_default()));
        }
        if self.is("databases.mongodb.enabled") {
            let section = "databases.mongodb";
            let database = coded(self.text("databases.mongodb.db").unwrap_or_default());
            let url = || format!("mongodb://{}/{database}", self.server(section, 27017));
            urls.push(self.text("databases.mongodb.uri").map_or_else(url, String::from));
        }
        urls
    }

    /// Where runs are delivered: to the queue, from which a keeper fills the databases, else to these; and to a file.
    pub fn places(&self) -> Vec<String> {
        let mut urls = self.queue().map_or_else(|| self.databases(), |queue| vec![queue]);
        if self.is("project.dump_buffer.enabled") {
            urls.push(format!("jsonl:{}", self.text("project.dump_buffer.path").unwrap_or_default()));
        }
        urls
    }

    /// Flowcept knows no users of Redis: `mq.username` is RabbitMQ's.
    fn redis(&self, section: &str) -> String {
        if let Some(url) = self.text(&format!("{section}.uri")) {
            return url.into();
        }
        let password = self.text(&format!("{section}.password")).map(|password| format!(":{}@", coded(password)));
        format!("redis://{}{}", password.unwrap_or_default(), self.server(section, 6379))
    }

    fn server(&self, section: &str, port: u16) -> String {
        let host = self.text(&format!("{section}.host")).unwrap_or_default();
        let port = self.get(&format!("{section}.port")).0.as_u64().unwrap_or(port.into());
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

fn coded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
