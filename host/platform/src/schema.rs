//! Links of the platform's documents, for the sweep, for fsck, and for other walks over a whole store.

use std::sync::LazyLock;

use konnector_manifest::Doctype;
use konnector_store::{DocRef, Links, Map};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::doctype::{FILES, INSTANCES, JOBS, KONNECTORS, PERMISSIONS, TRIGGERS, VERSIONS};
use crate::file::{File, Version};
use crate::instance::Instance;
use crate::job::Job;
use crate::konnector::Konnector;
use crate::permission::PermissionSet;
use crate::trigger::Trigger;
use crate::{file, instance, job, permission, trigger};

/// The schema of the platform.
#[derive(Debug, Clone, Copy, Default)]
pub struct Schema;

impl konnector_store::DocumentSchema for Schema {
    fn links(&self, at: &DocRef, body: &Map) -> Result<Links, String> {
        if at.doctype == *FILES {
            parse_body::<File>(body).map(|file| file.links(&at.id))
        } else if at.doctype == *VERSIONS {
            parse_body::<Version>(body).map(|version| version.links())
        } else if at.doctype == *JOBS {
            parse_body::<Job>(body).map(|job| job.links(&at.id))
        } else if at.doctype == *TRIGGERS {
            parse_body::<Trigger>(body).map(|trigger| trigger.links(&at.id))
        } else if at.doctype == *KONNECTORS {
            parse_body::<Konnector>(body).map(|konnector| konnector.links())
        } else if at.doctype == *PERMISSIONS {
            parse_body::<PermissionSet>(body).map(|set| set.links())
        } else if at.doctype == *INSTANCES && at.instance.is_global() {
            parse_body::<Instance>(body).map(|instance| instance.links())
        } else {
            Ok(Links::default())
        }
    }

    fn placement_error(
        &self,
        at: &DocRef,
        body: &Map,
        look: &dyn Fn(&DocRef) -> konnector_store::Result<Option<Map>>,
    ) -> konnector_store::Result<Option<String>> {
        if at.doctype == *FILES { file::placement_problem(at, body, look) } else { Ok(None) }
    }

    fn index_doctype(&self, index: &str) -> Option<Doctype> {
        let indexes: [(&[&str], &LazyLock<Doctype>); 5] = [
            (&file::INDEXES, &FILES),
            (&job::INDEXES, &JOBS),
            (&trigger::INDEXES, &TRIGGERS),
            (&instance::INDEXES, &INSTANCES),
            (&permission::INDEXES, &PERMISSIONS),
        ];
        let found = indexes.into_iter().find(|(names, _)| names.contains(&index));
        found.map(|(_, doctype)| (**doctype).clone())
    }
}

fn parse_body<T: DeserializeOwned>(body: &Map) -> Result<T, String> {
    serde_json::from_value(Value::Object(body.clone())).map_err(|error| error.to_string())
}
