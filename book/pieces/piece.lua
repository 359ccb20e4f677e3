-- Scripts of a page: those of every page, and those of the pieces that stand on it (lib/pieces.py).
local function scripts(name, version, files, more)
  local after = {}
  for _, file in ipairs(files) do
    table.insert(after, { name = file, path = file, attribs = { defer = "defer" } }) -- when the page is read
  end
  quarto.doc.add_html_dependency({ name = name, version = version, scripts = after, resources = more })
end

local function there(name)
  local file = io.open(quarto.utils.resolve_path(name), "r")
  if file then file:close() end
  return file ~= nil
end

function Pandoc(document)
  scripts("crossbook", "1", { "piece.js", "lightbox.js", "table.js" })
  document:walk({
    Div = function(div)
      local kind = div.attributes["data-piece"] or div.attributes["piece"]
      if kind == "slide" and there("openseadragon.js") then
        local licence = { { name = "LICENSE.txt", path = "openseadragon-licence.txt" } }
        scripts("openseadragon", "6.1.1", { "openseadragon.js" }, licence)
      end
      if kind then scripts("crossbook-" .. kind, "1", { kind .. ".js" }) end
    end,
  })
end
