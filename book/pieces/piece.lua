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

-- a drawing in lines alone can have dark and light exchanged (dark.scss); one with a photograph in it cannot
local function is_drawing(source)
  if not source:match("%.svg$") then return false end
  local folder = pandoc.path.directory(quarto.doc.input_file)
  local file = io.open(pandoc.path.join({ folder, source }), "r")
  if not file then return false end
  local content = file:read("a")
  file:close()
  return not content:match("<image")
end

function Pandoc(document)
  scripts("crossbook", "1", { "piece.js", "lightbox.js", "table.js" })
  return document:walk({
    Image = function(image)
      if is_drawing(image.src) then image.classes:insert("drawing") end
      local narrow = image.attributes.narrow -- drawn once more, for a telephone (lib/results.py)
      if not narrow then return image end
      image.attributes.narrow = nil
      local source = '<source media="screen and (max-width: 600px)" srcset="' .. narrow .. '">'
      return { pandoc.RawInline("html", "<picture>" .. source), image, pandoc.RawInline("html", "</picture>") }
    end,
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
