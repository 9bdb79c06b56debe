//! A list of pods: what the kubelet answers to `/pods`, a `PodList` of Kubernetes' API v1.

use std::collections::HashMap;

use serde::Deserialize;
use thiserror::Error;

use crate::{
    attribution::{container, text},
    model::owner::{Container, Pod},
};

/// Longest name that Kubernetes gives anything (RFC 1123 subdomain).
const MAX_NAME: usize = 253;

/// Why an answer is not taken for true. One false entry makes all of it doubtful.
#[derive(Debug, Error)]
pub(super) enum ListError {
    /// It is not JSON, or not of the form.
    #[error("the answer is no list of pods: {what}")]
    Form {
        /// What is wrong with it, and where.
        what: String,
    },
    /// It is a list of something else.
    #[error("the answer is a {kind}, no list of pods")]
    Kind {
        /// Of what.
        kind: String,
    },
    /// No Kubernetes has such a name.
    #[error("the answer has a pod whose {what} cannot be: {value:?}")]
    Name {
        /// What of it.
        what: &'static str,
        /// What it is.
        value: String,
    },
}

/// The pods, by what a control group's path tells of a container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    containers: HashMap<String, Pod>,
    uids: HashMap<String, Pod>,
}

#[derive(Deserialize)]
struct PodList {
    kind: Option<String>,
    /// `null` where there are none.
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    namespace: String,
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    /// Of a static pod: the UID by which the kubelet knows it, where the API server has
    /// given it another.
    #[serde(rename = "kubernetes.io/config.hash")]
    hash: Option<String>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(rename = "containerStatuses")]
    main: Option<Vec<ContainerStatus>>,
    #[serde(rename = "initContainerStatuses")]
    init: Option<Vec<ContainerStatus>>,
    #[serde(rename = "ephemeralContainerStatuses")]
    ephemeral: Option<Vec<ContainerStatus>>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    name: String,
    /// `RUNTIME://ID`; absent or empty until it has been created.
    #[serde(rename = "containerID")]
    id: Option<String>,
}

impl Table {
    /// Reads an answer.
    pub(super) fn parse(answer: &[u8]) -> Result<Self, ListError> {
        let list: PodList = serde_json::from_slice(answer)
            .map_err(|error| ListError::Form { what: shown(&error.to_string()) })?;
        if let Some(kind) = list.kind.filter(|kind| kind != "PodList" && kind != "List") {
            return Err(ListError::Kind { kind: shown(&kind) });
        }
        let mut table = Self::default();
        for item in list.items.unwrap_or_default() {
            table.add(item)?;
        }
        Ok(table)
    }

    fn add(&mut self, item: Item) -> Result<(), ListError> {
        let Item { metadata, status } = item;
        let pod = Pod {
            namespace: name("namespace", metadata.namespace)?,
            name: name("name", metadata.name)?,
            container: String::new(),
        };
        let Status { main, init, ephemeral } = status;
        for status in [main, init, ephemeral].into_iter().flatten().flatten() {
            let container = name("container's name", status.name)?;
            if let Some(id) = status.id.filter(|id| !id.is_empty()) {
                self.containers.insert(container_id(&id)?, Pod { container, ..pod.clone() });
            }
        }
        let hash = metadata.annotations.and_then(|annotations| annotations.hash);
        for uid in [Some(metadata.uid), hash].into_iter().flatten() {
            if container::is_uid(&uid) {
                self.uids.insert(uid, pod.clone());
            }
        }
        Ok(())
    }

    /// The pod of a container.
    pub(super) fn find(&self, container: &Container) -> Option<&Pod> {
        let by_uid = || self.uids.get(container.pod_uid.as_deref()?);
        self.containers.get(&container.id).or_else(by_uid)
    }
}

fn container_id(text: &str) -> Result<String, ListError> {
    let id = text.split_once("://").map_or(text, |(_, id)| id);
    if container::is_id(id) {
        return Ok(id.to_owned());
    }
    Err(ListError::Name { what: "container's id", value: shown(text) })
}

/// Names are made of lower-case letters, digits, `-` and `.`, and the API server lets no
/// others through.
fn name(what: &'static str, value: String) -> Result<String, ListError> {
    let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if !value.is_empty() && value.len() <= MAX_NAME && value.bytes().all(is_name) {
        return Ok(value);
    }
    Err(ListError::Name { what, value: shown(&value) })
}

/// What others wrote, fit for the log.
fn shown(value: &str) -> String {
    text::name(value.as_bytes()).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::model::owner::Runtime;

    pub(in crate::attribution::pods) const ID: &str =
        "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";
    const OTHER: &str = "c56236f3c7b1d1f0a5c8d2a0d4f8ac4bdd7bd8fd9cf5a2f8b4b1e8e9c3f0a1b2";
    const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";

    /// A list with one pod, `default/NAME`, and its container `web`.
    pub(in crate::attribution::pods) fn list(name: &str) -> Value {
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [{
            "metadata": {"namespace": "default", "name": name, "uid": UID, "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "web", "image": "nginx"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "web", "containerID": format!("containerd://{ID}"), "ready": true},
            ]},
        }]})
    }

    pub(in crate::attribution::pods) fn container(id: &str, pod_uid: Option<&str>) -> Container {
        let pod_uid = pod_uid.map(str::to_owned);
        Container { id: id.to_owned(), runtime: Runtime::Unknown, pod_uid }
    }

    fn parse(value: &Value) -> Result<Table, ListError> {
        Table::parse(value.to_string().as_bytes())
    }

    fn pod(name: &str, container: &str) -> Pod {
        Pod {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            container: container.to_owned(),
        }
    }

    #[test]
    fn containers_are_found_by_id_and_else_by_the_pods_uid() {
        let table = parse(&list("web-1")).unwrap();
        assert_eq!(table.find(&container(ID, None)), Some(&pod("web-1", "web")));
        assert_eq!(table.find(&container(ID, Some(UID))), Some(&pod("web-1", "web")));
        assert_eq!(table.find(&container(OTHER, Some(UID))), Some(&pod("web-1", "")));
        assert_eq!(table.find(&container(OTHER, None)), None);
    }

    #[test]
    fn containers_of_all_kinds_are_listed() {
        for kind in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
            let mut list = list("web-1");
            list["items"][0]["status"] =
                json!({kind: [{"name": "x", "containerID": format!("cri-o://{OTHER}")}]});
            let table = parse(&list).unwrap();
            assert_eq!(table.find(&container(OTHER, None)), Some(&pod("web-1", "x")), "{kind}");
        }
    }

    #[test]
    fn a_static_pod_is_found_by_its_hash() {
        let hash = "5f0b4b2a9c1d4e6f8a7b3c2d1e0f9a8b";
        let mut list = list("etcd-node");
        list["items"][0]["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": hash});
        let table = parse(&list).unwrap();
        assert_eq!(table.find(&container(OTHER, Some(hash))), Some(&pod("etcd-node", "")));
    }

    #[test]
    fn what_is_not_there_yet_is_no_lie() {
        for status in [
            json!({}),
            json!({"containerStatuses": null}),
            json!({"containerStatuses": []}),
            json!({"containerStatuses": [{"name": "web"}]}),
            json!({"containerStatuses": [{"name": "web", "containerID": ""}]}),
        ] {
            let mut list = list("web-1");
            list["items"][0]["status"] = status.clone();
            assert!(parse(&list).is_ok(), "{status}");
        }
        for empty in [json!({"kind": "PodList", "items": null}), json!({"items": []})] {
            assert_eq!(parse(&empty).unwrap(), Table::default());
        }
    }

    #[test]
    fn what_cannot_be_is_refused_whole() {
        let status = |status: Value| json!([{"name": "a"}, status]);
        for (at, value) in [
            ("/kind", json!("Status")),
            ("/kind", json!("Sta\u{1b}[2Jtus")),
            ("/items", json!({})),
            ("/items", json!("all")),
            ("/items/0", json!(null)),
            ("/items/0/metadata", json!([])),
            ("/items/0/metadata/name", json!(7)),
            ("/items/0/metadata/name", json!("")),
            ("/items/0/metadata/name", json!("a\nb")),
            ("/items/0/metadata/name", json!("a\"} 1")),
            ("/items/0/metadata/name", json!("a".repeat(254))),
            ("/items/0/metadata/namespace", json!("Default")),
            ("/items/0/metadata/namespace", json!(null)),
            ("/items/0/status", json!("Running")),
            ("/items/0/status/containerStatuses", status(json!({"name": "\u{7f}"}))),
            (
                "/items/0/status/containerStatuses",
                status(json!({"name": "b", "containerID": "containerd://not-hex"})),
            ),
            (
                "/items/0/status/containerStatuses",
                status(json!({"name": "b", "containerID": format!("{ID}0")})),
            ),
        ] {
            let mut list = list("web-1");
            *list.pointer_mut(at).unwrap() = value.clone();
            let error = parse(&list).unwrap_err().to_string();
            assert!(!error.contains(char::is_control), "{error:?}");
            assert!(error.len() < 600, "{error}");
        }
        for text in ["", "{", "[]", "null", "<html>", "{\"kind\":\"PodList\"", "\u{feff}{}"] {
            assert!(Table::parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert!(Table::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_uid_of_another_form_is_left_out() {
        let mut list = list("web-1");
        list["items"][0]["metadata"]["uid"] = json!("x\ny");
        assert!(parse(&list).unwrap().uids.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes: Vec<u8>) {
            drop(Table::parse(&bytes));
        }
    }
}
