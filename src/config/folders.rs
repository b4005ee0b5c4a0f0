//! The folders that pgate keeps its files in.

use std::path::{Path, PathBuf};

use url::Url;

use super::Error;

/// The user's folders, by the operating system's own conventions (XDG on Linux).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    home: PathBuf,
    config: PathBuf,
    data: PathBuf,
    state: PathBuf,
}

impl Folders {
    /// The folders of the user who runs this process.
    pub fn of_this_user() -> Result<Self, Error> {
        let home = dirs::home_dir().ok_or(Error::NoHome)?;
        let config = dirs::config_dir().ok_or(Error::NoHome)?.join("pgate");
        let data = dirs::data_local_dir().ok_or(Error::NoHome)?.join("pgate");
        let state = dirs::state_dir().map_or_else(|| data.clone(), |state| state.join("pgate"));
        Ok(Self { home, config, data, state })
    }

    /// All of them under one folder, as tests need it.
    pub fn under(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
            config: home.join(".config/pgate"),
            data: home.join(".local/share/pgate"),
            state: home.join(".local/state/pgate"),
        }
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The user's settings file; it may not exist.
    pub fn settings_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The 0600 file for tokens where there is no keyring; it may not exist.
    pub fn logins_file(&self) -> PathBuf {
        self.data.join("logins.json")
    }

    /// Where session logs wait until they are uploaded; it may not exist.
    pub fn spool(&self) -> PathBuf {
        self.state.join("spool")
    }

    /// A control plane's public keys as they were fetched last; it may not exist.
    pub fn server_keys(&self, server: &Url) -> PathBuf {
        let host = server.host_str().unwrap_or_default().replace([':', '[', ']'], "_");
        let port = server.port_or_known_default().unwrap_or_default();
        self.data.join("keys").join(format!("{}-{host}-{port}.json", server.scheme()))
    }
}
